/* pressure.h - settings of pressure.c for conn.c. */
#ifndef MQG_IO_PRESSURE_H
#define MQG_IO_PRESSURE_H

#include <stdint.h>

/* Of messages: publishers stop at the first (0: never), nothing grows beyond the second. */
void pressure_memory(int64_t high_bytes, int64_t hard_bytes);

#endif
