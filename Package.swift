// swift-tools-version: 6.2
import PackageDescription

// The command and what it shares with the libraries. The two Embedded Swift libraries themselves
// (libskein-preload.so and libskein.so) are made by the Makefile: SwiftPM can't link without the runtime.

/// What every Swift target is held to.
let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .strictMemorySafety(),
    .treatAllWarnings(as: .error),
]

let package = Package(
    name: "skein",
    products: [
        .executable(name: "skein", targets: ["skein"]),
        .executable(name: "skein-export", targets: ["skein-export"]),
        .executable(name: "skein-agent", targets: ["skein-agent"]),
        .library(name: "Skein", targets: ["Skein"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
    ],
    targets: [
        .target(name: "CSystem", cSettings: [.define("_GNU_SOURCE")]),
        .target(name: "SkeinCore", dependencies: ["CSystem"], swiftSettings: strict),
        // What the commands' answers for scripts are written with.
        .target(name: "SkeinText", swiftSettings: strict),
        .executableTarget(
            name: "skein",
            dependencies: [
                "CSystem", "SkeinCore", "SkeinText", "Skein", "SkeinTransfer",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: strict),
        // libskein.so, as `make install` or, with PKG_CONFIG_PATH=build/pkgconfig, this checkout has it.
        .systemLibrary(name: "CSkein", pkgConfig: "skein"),
        .target(name: "Skein", dependencies: ["CSkein"], swiftSettings: strict),
        .executableTarget(
            name: "SkeinTests", dependencies: ["Skein"], path: "Tests/Swift", exclude: ["run.sh"], swiftSettings: strict
        ),
        // What `skein send` and `skein receive` say to each other, without I/O.
        .systemLibrary(name: "CXXHash", pkgConfig: "libxxhash", providers: [.apt(["libxxhash-dev"])]),
        .target(name: "SkeinTransfer", dependencies: ["CXXHash"], swiftSettings: strict),
        .executableTarget(
            name: "TransferTests", dependencies: ["SkeinTransfer"], path: "Tests/Transfer", swiftSettings: strict),
        // Device export: the NBD protocol without I/O, devices, and the server that joins them. A program of its own,
        // which `skein export` executes: what it is linked with would slow down the start of `skein`.
        .target(name: "SkeinNBD", swiftSettings: strict),
        .systemLibrary(name: "CNBD", pkgConfig: "libnbd", providers: [.apt(["libnbd-dev"])]),
        .target(name: "SkeinDevice", dependencies: ["CNBD", "CSystem"], swiftSettings: strict),
        .systemLibrary(name: "CGnuTLS", pkgConfig: "gnutls", providers: [.apt(["libgnutls28-dev"])]),
        .target(name: "SkeinTLS", dependencies: ["CGnuTLS"], swiftSettings: strict),
        .target(
            name: "SkeinExport",
            dependencies: [
                "CSystem", "Skein", "SkeinText", "SkeinNBD", "SkeinDevice", "SkeinTLS",
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: strict),
        .executableTarget(
            name: "skein-export",
            dependencies: [
                "CSystem", "SkeinExport", "SkeinDevice", "SkeinTLS", .product(name: "Logging", package: "swift-log"),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: strict),
        .executableTarget(
            name: "DeviceTests", dependencies: ["SkeinDevice"], path: "Tests/Device", exclude: ["run.sh"],
            swiftSettings: strict
        ),
        // The direct call path beside layers, for the benchmark of device export.
        .executableTarget(
            name: "CallPath", dependencies: ["SkeinDevice", "SkeinNBD"], path: "Benchmarks/CallPath",
            swiftSettings: strict),
        // Hosts that share a medium: its format, membership and rings; the filaments on a conduit; what a host does
        // with both. State machines without I/O.
        .target(name: "SkeinMedium", dependencies: ["CXXHash"], swiftSettings: strict),
        .target(
            name: "SkeinSeal", dependencies: ["SkeinMedium", .product(name: "Crypto", package: "swift-crypto")],
            swiftSettings: strict),
        .target(name: "SkeinConduit", swiftSettings: strict),
        .target(name: "SkeinGroup", dependencies: ["SkeinConduit", "SkeinMedium"], swiftSettings: strict),
        // What touches a medium: its device, the group's key, the commands that make it and look at it, and the agent. A
        // program of its own, which `skein agent`, `skein medium` and `skein key` execute.
        .systemLibrary(name: "CURing", pkgConfig: "liburing", providers: [.apt(["liburing-dev"])]),
        .target(
            name: "SkeinAgent",
            dependencies: [
                "CSkein", "CSystem", "CURing", "SkeinConduit", "SkeinCore", "SkeinDevice", "SkeinGroup", "SkeinMedium",
                "SkeinSeal",
                .product(name: "Crypto", package: "swift-crypto"), .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: strict),
        .executableTarget(
            name: "skein-agent",
            dependencies: [
                "CSystem", "SkeinAgent", "SkeinDevice", "SkeinMedium", "SkeinText",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: strict),
        .target(
            name: "MediumKit", dependencies: ["SkeinMedium"], path: "Tests/MediumKit", swiftSettings: strict),
        .executableTarget(
            name: "MediumTests", dependencies: ["MediumKit", "SkeinCore", "SkeinMedium"], path: "Tests/Medium",
            exclude: ["run.sh", "golden.py", "cipher.py"], swiftSettings: strict),
        .executableTarget(
            name: "Simulator", dependencies: ["SkeinMedium"], path: "Tests/Simulator", exclude: ["run.sh"],
            swiftSettings: strict),
        .executableTarget(
            name: "SealTests", dependencies: ["MediumKit", "SkeinMedium", "SkeinSeal"], path: "Tests/Seal",
            swiftSettings: strict),
        .executableTarget(
            name: "ConduitTests", dependencies: ["MediumKit", "SkeinConduit", "SkeinGroup", "SkeinMedium"],
            path: "Tests/Conduit",
            exclude: ["run.sh", "golden.py"], swiftSettings: strict),
        .executableTarget(
            name: "ConduitSimulator", dependencies: ["SkeinConduit"], path: "Tests/ConduitSimulator",
            exclude: ["run.sh"], swiftSettings: strict),
        // The contract suite with the faces that stand on libskein.so; the Makefile builds it without them as well.
        .systemLibrary(name: "CContract", path: "Tests/Contract/CContract"),
        .executableTarget(
            name: "SkeinContract", dependencies: ["CContract", "CSkein", "Skein"], path: "Tests/Contract",
            exclude: ["CContract", "exceptions.txt"],
            swiftSettings: [.swiftLanguageMode(.v6), .treatAllWarnings(as: .error), .define("STP")]),
    ]
)
