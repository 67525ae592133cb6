/* progress.c - how far a start has come, for whoever asks while the main thread is busy with it.
 *
 * The main thread writes down what it does; others read it under the same lock and make of it what a person wants to know:
 * for how long, and how long still. The rest is what the pace of the reading so far says, counted down between two reports.
 * Building comes after reading and is short beside it; its rest is not guessed. */
#include "progress.h"

#include <pthread.h>
#include <stdio.h>

/* A pace that was measured for less says nothing. */
enum { PROGRESS_PACE_US = 200 * 1000 };

static pthread_mutex_t progress_lock = PTHREAD_MUTEX_INITIALIZER;
static const char *progress_now = "opening";
static char progress_store[64];
static uint64_t progress_done, progress_all;
static _Atomic uint64_t progress_messages; /* one writer: counted per message, so without the lock */
static uint64_t progress_begun_us,
    progress_told_us;             /* of this store: the first report, the last one; monotonic */
static uint64_t progress_first;   /* bytes that the first report spoke of */
static bool progress_is_building; /* main thread only */

void progress_phase(const char *phase)
{
    pthread_mutex_lock(&progress_lock);
    progress_now = phase;
    pthread_mutex_unlock(&progress_lock);
}

void progress_reading(const char *store, uint64_t done_bytes, uint64_t all_bytes)
{
    uint64_t now_us = mqg_clock_mono_us();
    pthread_mutex_lock(&progress_lock);
    if (strcmp(progress_store, store) != 0) {
        snprintf(progress_store, sizeof progress_store, "%s", store);
        progress_begun_us = now_us;
        progress_first = done_bytes;
        progress_now = "reading";
        progress_is_building = false;
    }
    progress_done = done_bytes < all_bytes ? done_bytes : all_bytes;
    progress_all = all_bytes;
    progress_told_us = now_us;
    pthread_mutex_unlock(&progress_lock);
}

void progress_building(void)
{
    if (progress_is_building)
        return;
    progress_is_building = true;
    progress_phase("building");
}

uint64_t progress_built(uint64_t messages)
{
    uint64_t all = atomic_load_explicit(&progress_messages, memory_order_relaxed) + messages;
    atomic_store_explicit(&progress_messages, all, memory_order_relaxed);
    return all;
}

/* Milliseconds until the reading is done; under the lock. */
static uint64_t progress_rest_ms(uint64_t now_us)
{
    uint64_t took_us = progress_told_us - progress_begun_us, read = progress_done - progress_first;
    if (strcmp(progress_now, "reading") != 0 || took_us < PROGRESS_PACE_US || progress_done <= progress_first)
        return UINT64_MAX;
    double rest_us = (double)took_us / (double)read * (double)(progress_all - progress_done);
    double since_us = (double)(now_us - progress_told_us);
    return rest_us > since_us ? (uint64_t)((rest_us - since_us) / 1000) : 0;
}

void mqg_node_progress(struct mqg_node_progress *out)
{
    uint64_t now_us = mqg_clock_mono_us(), started_us = mqg_node_started_us(),
             wall_us = mqg_clock_now().wall_us;
    pthread_mutex_lock(&progress_lock);
    *out = (struct mqg_node_progress){
        .phase = progress_now,
        .done_bytes = progress_done,
        .all_bytes = progress_all,
        .messages = atomic_load_explicit(&progress_messages, memory_order_relaxed),
        .elapsed_ms = wall_us > started_us ? (wall_us - started_us) / 1000 : 0,
        .rest_ms = progress_rest_ms(now_us)};
    memcpy(out->store, progress_store, sizeof out->store);
    pthread_mutex_unlock(&progress_lock);
}
