/* test_kit.h - what the unit tests of base share: cmocka's headers in their order, exact copies, deaths.
 *
 * A decoder is fed from an allocation of exactly its input's size, so that AddressSanitizer sees one byte too
 * many. An assert is tested by letting it end a child process. */
#ifndef MQGATE_BASE_TEST_KIT_H
#define MQGATE_BASE_TEST_KIT_H

#include <mqgate/base.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static inline uint8_t *test_exact_copy(struct mqg_slice s)
{
    uint8_t *copy = malloc(s.len > 0 ? s.len : 1);
    assert_non_null(copy);
    if (s.len > 0)
        memcpy(copy, s.ptr, s.len);
    return copy;
}

/* The same numbers in each run, so that a failure can be had again (xorshift). */
static inline uint64_t test_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Runs fn in a child whose stderr comes back in text; true when it died of an assert. */
static inline bool test_dies(void (*fn)(void *arg), void *arg, char *text, size_t size)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        fn(arg);
        _exit(0);
    }
    close(ends[1]);
    size_t len = 0;
    for (ssize_t n = 1; n > 0 && len<size - 1; len += n> 0 ? (size_t)n : 0)
        n = read(ends[0], text + len, size - 1 - len);
    text[len] = '\0';
    close(ends[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

#endif
