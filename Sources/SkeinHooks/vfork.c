// vfork: the child returns into the caller's frames first, and would leave nothing there for a wrapper to return through.
// So this chooses, and jumps.
#include "../CSystem/include/system.h"

static int (*may_lend)(void);

__attribute__((visibility("hidden")))
void sk_watch_vforks(int (*answer)(void)) { may_lend = answer; }

/* The function to go on with: the C library's own, where a child can edit nothing of ours in the memory that it is lent. */
__attribute__((visibility("hidden"), used))
void *sk_vfork_way(void) {
    void *next = sk_next_symbol("vfork");
    if (!next || (may_lend && !may_lend())) return (void *)fork;
    sk_lend_memory();
    return next;
}

__asm__(
    ".text\n"
    ".globl vfork, __vfork\n"
    ".type vfork, %function\n"
    ".type __vfork, %function\n"
    "vfork:\n"
    "__vfork:\n"
    ".cfi_startproc\n"
#if defined(__x86_64__)
    "endbr64\n"
    "subq $8, %rsp\n"
    ".cfi_adjust_cfa_offset 8\n"
    "callq sk_vfork_way\n"
    "addq $8, %rsp\n"
    ".cfi_adjust_cfa_offset -8\n"
    "jmpq *%rax\n"
#else
    "hint #34\n"  // bti c
    "stp x29, x30, [sp, #-16]!\n"
    ".cfi_adjust_cfa_offset 16\n"
    ".cfi_offset x30, -8\n"
    ".cfi_offset x29, -16\n"
    "bl sk_vfork_way\n"
    "ldp x29, x30, [sp], #16\n"
    ".cfi_adjust_cfa_offset -16\n"
    ".cfi_restore x30\n"
    ".cfi_restore x29\n"
    "mov x16, x0\n"
    "br x16\n"
#endif
    ".cfi_endproc\n"
    ".size vfork, .-vfork\n"
    ".size __vfork, .-__vfork\n");
