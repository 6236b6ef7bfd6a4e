/* The system's own headers: a module map has no search path. */
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
