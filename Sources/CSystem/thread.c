// What is no header's: thread-local words, the process's lock, a frame that cancellation unwinds to, and a thread's start.

// A thread-local word can't be declared in Embedded Swift, and one in a header is not emitted by it.
#include "include/system.h"

#include <sched.h>

__thread int sk_thread_id_word = 0;
__thread uint32_t *sk_held_words[sk_held_at_most];
__thread struct sk_write *sk_write_word = 0;
__thread struct sk_sending *sk_sending_word = 0;
__thread int sk_stp_error_word = 0;
__thread int sk_lender_word = 0;
__thread struct sk_acceptance sk_acceptance_word = {-1, -1, 0};
__thread int sk_left_descriptor_word = 0;

long sk_robust_list_offset = 0;
_Alignas(64) uint64_t sk_process_lock_words[8];

int sk_hold_with_others(uint32_t *word) {
    uint32_t **place = 0;
    int others = 0;
    for (int index = 0; index < sk_held_at_most; index++) {
        if (sk_held_words[index] == word) return 1;
        if (sk_held_words[index]) others = 1;
        else if (!place) place = &sk_held_words[index];
    }
    if (!place) return 1;
    *place = word;
    if (sk_robust_list_offset && (others || !sk_robust_list()->list_op_pending))
        sk_robust_list()->list_op_pending = sk_robust_entry(word);
    __asm__ volatile("" ::: "memory");
    return 0;
}

void sk_let_go_with_others(uint32_t *word) {
    uint32_t *other = 0;
    for (int index = 0; index < sk_held_at_most; index++) {
        if (sk_held_words[index] == word) sk_held_words[index] = 0;
        if (sk_held_words[index]) other = sk_held_words[index];
    }
    if (sk_robust_list_offset && sk_robust_list()->list_op_pending == sk_robust_entry(word))
        sk_robust_list()->list_op_pending = other ? sk_robust_entry(other) : 0;
}

#ifdef SKEIN_CRASH_POINTS
extern long strtol(const char *text, char **end, int base);
void sk_crash_point(void) {
    static long count;
    const char *at = sk_environment("SKEIN_CRASH_AT");
    if (at && __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED) == strtol(at, 0, 10)) sk_kill(sk_getpid(), 9);
}
#endif

long sk_cancellable(long (*call)(void *context), void (*undo)(void *context), void *context) {
    long result;
    pthread_cleanup_push(undo, context);
    result = call(context);
    pthread_cleanup_pop(0);
    return result;
}

struct visit {
    void (*body)(void *context);
    void *context;
    int death_signal;
};

static int begin_visit(void *context) {
    const struct visit *visit = context;
    // All else that a program keeps when it executes another one is the process's, or comes along with a clone.
    if (visit->death_signal) sk_syscall6(SYS_prctl, 1 /* PR_SET_PDEATHSIG */, visit->death_signal, 0, 0, 0, 0);
    visit->body(visit->context);
    return 0;
}

long sk_with_own_descriptors(void (*body)(void *context), void *context, void *stack_end) {
    struct visit visit = {body, context, 0};
    sk_syscall6(SYS_prctl, 2 /* PR_GET_PDEATHSIG */, SK_P(&visit.death_signal), 0, 0, 0, 0);
    // It has the caller's thread-local words, who doesn't use them meanwhile.
    int flags = CLONE_VM | CLONE_VFORK | CLONE_FS | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    return clone(begin_visit, stack_end, flags, &visit) < 0 ? -errno : 0;
}
