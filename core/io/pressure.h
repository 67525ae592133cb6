/* pressure.h - settings of pressure.c for conn.c. */
#ifndef MQG_IO_PRESSURE_H
#define MQG_IO_PRESSURE_H

#include <stdint.h>

void pressure_memory_high(int64_t bytes); /* 0: never */

#endif
