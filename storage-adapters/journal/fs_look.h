/* fs_look.h - a file-system table that looks and never touches: what is written stays in memory.
 *
 * Recovery cuts torn tails, gives files new uses and copies damage aside. On this table it does all that to a view of
 * the folder: so `mqgatectl store` runs the very code that a start runs, and the folder stays as it was. One thread. */
#ifndef JRN_FS_LOOK_H
#define JRN_FS_LOOK_H

#include "fs.h"

struct jrn_fs_look;

struct jrn_fs_look *jrn_fs_look_new(void);
void jrn_fs_look_free(struct jrn_fs_look **look);
/* Is the folder one with a journal that nobody uses? While the view lives nobody can begin to. NOT_FOUND, LOCKED (by
 * whom), IO; MQG_OK. */
enum mqg_err jrn_fs_look_begin(struct jrn_fs_look *look, const char *path, struct mqg_error *e);
const struct jrn_fs *jrn_fs_look_table(const struct jrn_fs_look *look);

#endif
