/*
 * Replays a corpus through a fuzz target, without a fuzzer.
 *
 * A fuzz target is a function; libFuzzer brings the main that finds inputs. Found inputs are worth more than
 * the search: they stay in tests/corpus/NAME/ and every test run, under every sanitizer and compiler, feeds
 * them again through this main. Each input is fed from an allocation of exactly its size, so that one byte
 * read beyond it is seen by AddressSanitizer. A corpus that is empty or missing fails: it would test nothing.
 *
 * usage: NAME_replay FILE|DIRECTORY...
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { REPLAY_INPUT_MAX_BYTES = 16 * 1024 * 1024 };

static _Noreturn void replay_fail(const char *path, const char *why)
{
    fprintf(stderr, "replay: %s: %s\n", path, why);
    exit(1);
}

static void replay_file(const char *path, size_t size)
{
    if (size > REPLAY_INPUT_MAX_BYTES)
        replay_fail(path, "larger than 16 MiB, not an input for a corpus");
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        replay_fail(path, strerror(errno));
    uint8_t *data = malloc(size > 0 ? size : 1);
    if (data == NULL)
        replay_fail(path, "out of memory");
    if (fread(data, 1, size, file) != size)
        replay_fail(path, "short read");
    fclose(file);
    (void)LLVMFuzzerTestOneInput(data, size);
    free(data);
}

static int replay_name_is_input(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static size_t replay_directory(const char *path)
{
    struct dirent **entries = NULL;
    int count = scandir(path, &entries, replay_name_is_input, alphasort);
    if (count < 0)
        replay_fail(path, strerror(errno));
    for (int i = 0; i < count; i++) {
        char name[4096];
        struct stat st;
        int length = snprintf(name, sizeof name, "%s/%s", path, entries[i]->d_name);
        if (length < 0 || (size_t)length >= sizeof name || stat(name, &st) != 0 || !S_ISREG(st.st_mode))
            replay_fail(entries[i]->d_name, "not a readable file");
        replay_file(name, (size_t)st.st_size);
        free(entries[i]);
    }
    free(entries);
    return (size_t)count;
}

static size_t replay_path(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0)
        replay_fail(path, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return replay_directory(path);
    replay_file(path, (size_t)st.st_size);
    return 1;
}

int main(int argc, char **argv)
{
    size_t inputs = 0;
    for (int i = 1; i < argc; i++)
        inputs += replay_path(argv[i]);
    if (inputs == 0)
        replay_fail(argc > 1 ? argv[1] : "(no path)", "no inputs: an empty corpus tests nothing");
    printf("replayed %zu inputs\n", inputs);
    return 0;
}
