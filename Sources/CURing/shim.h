/* The system's own header: a module map has no search path. */
#include <liburing.h>
