"""The suites of ./test: one row each, in the order in which they run.

A row says what runs, how long it may take, and whether it belongs to the short run. To add a suite, add a
row. The kinds of suites (meson, pytest_folder, command, build_only) are in kinds.py.
"""
from kinds import Build, Suite, build_only, command, meson, pytest_folder

RELEASE = Build("build")
ASAN = Build("build-asan", {"b_sanitize": "address,undefined", "faults": "true", "bench": "false",
                            "optimization": "1"})
TSAN = Build("build-tsan", {"b_sanitize": "thread", "bench": "false", "optimization": "1"})
CLANG = Build("build-clang", {"optimization": "0", "debug": "false"}, cc="clang")
STATIC = Build("build-static", {"static_modules": "true", "tests": "false", "bench": "false",
                                "optimization": "0", "debug": "false"})

# The short run ends before this, whatever its suites would like.
TOTAL_LIMIT_S = 20 * 60

PYTHON = "/usr/bin/python3"
AMQP_AND_STOMP_PEERS = "pika py-amqp kombu rabbitmq-c bunny stomp.py"

SUITES = [
    #     name         limit_s  what runs                                           in the short run, too?
    Suite("release",       540, meson(RELEASE)),
    Suite("asan",          600, meson(ASAN)),
    Suite("clang",         240, build_only(CLANG)),
    Suite("lint",          480, command("tools/lint")),
    Suite("lint-test",     120, command("tools/lint_test")),
    Suite("tools",         240, pytest_folder("tools/testrun")),
    Suite("ledger",         60, pytest_folder("tests/kill9")),
    Suite("clients",       480, pytest_folder("tests/clients", on=RELEASE)),
    Suite("hostile",       240, pytest_folder("tests/hostile", on=RELEASE)),
    Suite("hostile-asan",  300, pytest_folder("tests/hostile", on=ASAN)),
    Suite("http",          240, pytest_folder("tests/http", on=RELEASE)),
    Suite("stomp",         360, pytest_folder("tests/stomp", on=RELEASE)),
    Suite("kafka",         480, pytest_folder("tests/kafka", on=RELEASE)),
    Suite("mqtt",          480, pytest_folder("tests/mqtt", on=RELEASE)),
    Suite("scenarios",     240, pytest_folder("tests/scenarios", on=RELEASE)),
    Suite("kill9",         180, command(f"{PYTHON} tests/kill9 --rounds 10", on=RELEASE), long=False),
    Suite("kill9-100",    1500, command(f"{PYTHON} tests/kill9 --rounds 100", on=RELEASE), short=False),
    Suite("kafka-kill9",   300, command(f"{PYTHON} tests/kafka/eos.py --rounds 4", on=RELEASE), long=False),
    Suite("kafka-kill9-java", 600, command(f"{PYTHON} tests/kafka/eos.py --rounds 20 --java", on=RELEASE), short=False),
    Suite("kafka-kill9-100", 1200, command(f"{PYTHON} tests/kafka/eos.py --rounds 100", on=RELEASE), short=False),
    Suite("faults",       1800, command("tests/faults/run --all", on=RELEASE), short=False),
    Suite("crash-images", 1500, command("tests/crash-images/run --images 100000", on=RELEASE), short=False),
    Suite("static",        240, build_only(STATIC), short=False),
    Suite("tsan",          900, meson(TSAN), short=False),
    Suite("clients-asan",  600, pytest_folder("tests/clients", on=ASAN, never_long=True), short=False),
    Suite("clients-tsan",  900, pytest_folder("tests/clients", on=TSAN, never_long=True), short=False),
    Suite("stomp-asan",    600, pytest_folder("tests/stomp", on=ASAN, never_long=True), short=False),
    Suite("stomp-tsan",    600, pytest_folder("tests/stomp", on=TSAN, never_long=True), short=False),
    Suite("kafka-asan",    600, pytest_folder("tests/kafka", on=ASAN, never_long=True), short=False),
    Suite("kafka-tsan",    600, pytest_folder("tests/kafka", on=TSAN, never_long=True), short=False),
    Suite("mqtt-asan",     600, pytest_folder("tests/mqtt", on=ASAN, never_long=True), short=False),
    Suite("mqtt-tsan",     900, pytest_folder("tests/mqtt", on=TSAN, never_long=True), short=False),
    Suite("hostile-tsan",  900, pytest_folder("tests/hostile", on=TSAN, never_long=True), short=False),
    Suite("fuzz",         1200, command("tools/fuzz 30"), short=False),
    Suite("peers",        2400, command(f"{PYTHON} tests/peers {AMQP_AND_STOMP_PEERS}", on=RELEASE), short=False),
    Suite("peers-kafka",  3600, command(f"{PYTHON} tests/peers librdkafka", on=RELEASE), short=False),
]
