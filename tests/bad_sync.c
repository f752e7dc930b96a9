/* A disk whose every sync is slow (BAD_SYNC_MS) or fails (BAD_SYNC_ERRNO). Loaded into the real program by LD_PRELOAD;
 * compiled by bad_sync.py. No part of the product.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

static int bad_sync(void) {
    const char *ms = getenv("BAD_SYNC_MS"), *fails = getenv("BAD_SYNC_ERRNO");
    if (ms) {
        struct timespec pause = {atol(ms) / 1000, atol(ms) % 1000 * 1000000};
        nanosleep(&pause, NULL);
    }
    if (fails) {
        errno = atoi(fails);
        return -1;
    }
    return 0; /* a test has no power cut to survive */
}

int fdatasync(int descriptor) {
    (void)descriptor;
    return bad_sync();
}

int fsync(int descriptor) {
    (void)descriptor;
    return bad_sync();
}
