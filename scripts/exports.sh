#!/bin/sh
# Prints a linker version script that exports what the given Swift sources declare with @c and nothing
# else: the weak Swift runtime inside must not capture that of a Swift program it is loaded into.
set -eu
echo "{ global:"
sed -n 's/.*@c(\([A-Za-z0-9_]*\)).*/    \1;/p' "$@" | sort -u
# Variadic functions and vfork, which are C.
printf '    %s;\n' execl execlp execle clone syscall dprintf __dprintf_chk vfork __vfork
echo "  local: *; };"
