import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.DigestInputStream;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.concurrent.Executors;

/** FileServer PORT FOLDER: hands out the files of the folder, and answers a POST with the SHA-256 of its body. */
public class FileServer {
    public static void main(String[] arguments) throws Exception {
        var address = new InetSocketAddress(InetAddress.getLoopbackAddress(), Integer.parseInt(arguments[0]));
        var folder = Path.of(arguments[1]);
        var server = HttpServer.create(address, 0);
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.createContext("/", exchange -> answer(exchange, folder));
        server.start();
    }

    private static void answer(HttpExchange exchange, Path folder) throws IOException {
        try (exchange) {
            if (exchange.getRequestMethod().equals("POST")) {
                var digest = digestOf(exchange.getRequestBody()).getBytes();
                exchange.sendResponseHeaders(200, digest.length);
                exchange.getResponseBody().write(digest);
                return;
            }
            var file = folder.resolve(Path.of(exchange.getRequestURI().getPath()).getFileName());
            var size = Files.size(file);
            exchange.sendResponseHeaders(200, size == 0 ? -1 : size);
            if (size > 0) Files.copy(file, exchange.getResponseBody());
        }
    }

    private static String digestOf(InputStream body) throws IOException {
        try {
            var digest = new DigestInputStream(body, MessageDigest.getInstance("SHA-256"));
            digest.transferTo(java.io.OutputStream.nullOutputStream());
            return HexFormat.of().formatHex(digest.getMessageDigest().digest());
        } catch (java.security.NoSuchAlgorithmException impossible) {
            throw new AssertionError(impossible);
        }
    }
}
