// A thread-local word can't be declared in Embedded Swift, and one in a header is not emitted by it.
#include "include/system.h"

__thread int sk_thread_id_word = 0;
__thread int sk_stp_error_word = 0;
