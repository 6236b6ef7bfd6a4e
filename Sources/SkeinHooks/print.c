// What of stdio Swift can't say: functions with variable arguments, and the variables stdin, stdout and stderr.
#include <stdarg.h>
#include <stdio.h>
#include <stdio_ext.h>

extern int __vdprintf_chk(int descriptor, int flag, const char *format, va_list arguments);

__attribute__((visibility("default"))) int dprintf(int descriptor, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int count = vdprintf(descriptor, format, arguments);
    va_end(arguments);
    return count;
}

__attribute__((visibility("default"))) int __dprintf_chk(int descriptor, int flag, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int count = __vdprintf_chk(descriptor, flag, format, arguments);
    va_end(arguments);
    return count;
}

static FILE **standard_stream(int number) { return number == 0 ? &stdin : number == 1 ? &stdout : &stderr; }

void *sk_standard_stream(int number) { return *standard_stream(number); }

void sk_replace_standard_stream(int number, void *stream) {
    FILE *made = stream, *old = *standard_stream(number);
    if (number > 0) {
        if (old->_flags & 2 /* unbuffered */) setvbuf(made, NULL, _IONBF, 0);
        else if (__flbf(old)) setvbuf(made, NULL, _IOLBF, 0);
        // What was written and not sent goes where the number leads now, as it would have from the old one.
        size_t pending = __fpending(old);
        if (pending > 0) {
            fwrite(old->_IO_write_base, 1, pending, made);
            __fpurge(old);
        }
    }
    *standard_stream(number) = made;
}

int sk_open_number(const char *path, const char *mode, void **opened) {
    *opened = fopen(path, mode);
    return *opened ? fileno(*opened) : -1;
}

void sk_close_file(void *opened) { fclose(opened); }

// What was written goes where it led before; what was read ahead is nobody's.
void sk_begin_anew(void *stream) {
    fflush(stream);
    __fpurge(stream);
    clearerr(stream);
}
