/* mutant.h - what is taken out of the journal (mutant.c). */
#ifndef CI_MUTANT_H
#define CI_MUTANT_H

#include <mqgate/base.h>

extern bool mutant_no_crc, mutant_no_nonce; /* set once, before anything runs */

#endif
