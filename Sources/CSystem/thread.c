// What is no header's: thread-local words, the process's lock, and a frame that cancellation unwinds to.

// A thread-local word can't be declared in Embedded Swift, and one in a header is not emitted by it.
#include "include/system.h"

__thread int sk_thread_id_word = 0;
__thread int sk_stp_error_word = 0;

_Alignas(64) uint64_t sk_process_lock_words[8];

long sk_cancellable(long (*call)(void *context), void (*undo)(void *context), void *context) {
    long result;
    pthread_cleanup_push(undo, context);
    result = call(context);
    pthread_cleanup_pop(0);
    return result;
}
