"""How late this machine wakes a thread that only sleeps: run beside a load until a line comes on standard input, it prints the p99 in
microseconds. A p99 of a server's that is no worse than this is the machine's."""

import select
import sys
import time

NAP_S = 0.002


def main():
    late = []
    while not select.select([sys.stdin], [], [], 0)[0]:
        begin = time.monotonic()
        time.sleep(NAP_S)
        late.append(time.monotonic() - begin - NAP_S)
    late.sort()
    print(f"{late[int(len(late) * 0.99)] * 1e6 if late else 0:.0f}")


if __name__ == "__main__":
    main()
