// The variadic members of the exec family, which Swift can't declare: each gathers its arguments and
// calls the hook of the form with an array.
#include <alloca.h>
#include <stdarg.h>
#include <stddef.h>

extern int execve(const char *path, char *const arguments[], char *const environment[]);
extern int execv(const char *path, char *const arguments[]);
extern int execvp(const char *file, char *const arguments[]);

static size_t count_arguments(va_list list) {
    size_t count = 1;
    while (va_arg(list, char *)) count++;
    return count;
}

#define GATHER(first, arguments, list)                                              \
    va_list list;                                                                   \
    va_start(list, first);                                                          \
    size_t count = first ? count_arguments(list) : 0;                               \
    va_end(list);                                                                   \
    char **arguments = alloca((count + 1) * sizeof(char *));                        \
    va_start(list, first);                                                          \
    arguments[0] = (char *)first;                                                   \
    for (size_t index = 1; index <= count; index++) arguments[index] = va_arg(list, char *);

__attribute__((visibility("default"))) int execl(const char *path, const char *first, ...) {
    GATHER(first, arguments, list)
    va_end(list);
    return execv(path, arguments);
}

__attribute__((visibility("default"))) int execlp(const char *file, const char *first, ...) {
    GATHER(first, arguments, list)
    va_end(list);
    return execvp(file, arguments);
}

__attribute__((visibility("default"))) int execle(const char *path, const char *first, ...) {
    GATHER(first, arguments, list)
    char *const *environment = va_arg(list, char *const *);
    va_end(list);
    return execve(path, arguments, environment);
}
