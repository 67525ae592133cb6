"""All normative statements of 3.1.1 and 5.0 by number, those that are the client's alone, and those whose case does not arise here.

Numbers are section-number; a row says from which to which. What is neither covered by a test nor one of these is open, and the table of
protocols/mqtt/mqtt.md would list it."""

NUMBERS = {
    "3:": """1.5.3:1-3 2.2.2:1-2 2.3.1:1-7 3.1.0:1-2 3.1.2:1-24 3.1.3:1-11 3.1.4:1-5 3.2.0:1 3.2.2:1-6 3.3.1:1-12 3.3.2:1-3
             3.3.4:1 3.3.5:1-2 3.6.1:1 3.8.1:1 3.8.3:1-3 3-8.3:4 3.8.4:1-6 3.9.3:1-2 3.10.1:1 3.10.3:1-2 3.10.4:1-6 3.12.4:1
             3.14.1:1 3.14.4:1-3 4.1.0:1-2 4.3.1:1 4.3.2:1-2 4.3.3:1-2 4.4.0:1 4.5.0:1-2 4.6.0:1-6 4.7.1:1-3 4.7.2:1
             4.7.3:1-4 4.8.0:1-2 6.0.0:1-4 7.0.0:1-2 7.1.1:1 7.1.2:1-2""",
    "5:": """1.5.4:1-3 1.5.5:1 1.5.7:1 2.1.3:1 2.2.1:2-6 2.2.2:1 3.1.0:1-2 3.1.2:1-30 3.1.3:1-12 3.1.4:1-6 3.2.0:1-2 3.2.2:1-22
             3.3.1:1-13 3.3.2:1-20 3.3.4:1-10 3.4.2:1-3 3.5.2:1-3 3.6.1:1 3.6.2:1-3 3.7.2:1-3 3.8.1:1 3.8.3:1-5 3.8.4:1-8
             3.9.2:1-2 3.9.3:1-2 3.10.1:1 3.10.3:1-2 3.10.4:1-6 3.11.2:1-2 3.11.3:1-2 3.12.4:1 3.14.0:1 3.14.1:1 3.14.2:1-4
             3.14.4:1-3 3.15.1:1 3.15.2:1-3 4.1.0:1-2 4.2.0:1 4.3.1:1 4.3.2:1-5 4.3.3:1-13 4.4.0:1-2 4.5.0:1-2 4.6.0:1-6
             4.7.0:1 4.7.1:1-2 4.7.2:1 4.7.3:1-4 4.8.2:1-6 4.9.0:1-3 4.12.0:1-7 4.12.1:1-2 4.13.1:1 4.13.2:1 6.0.0:1-4""",
}

# What the client alone has to do; where the server must answer a breach, a test has it anyway.
CLIENT = {
    "3:": """2.3.1-2 2.3.1-3 3.1.2-23 3.1.3-1 4.5.0-2 6.0.0-3 7.1.2-1 7.1.2-2""",
    "5:": """2.2.1-3 3.1.2-20 3.1.2-21 3.1.3-1 3.2.2-4 3.2.2-5 3.2.2-11 3.2.2-14 3.2.2-15 3.2.2-17 3.2.2-21 3.3.4-8 4.5.0-2
             6.0.0-3""",
}

# Statements about what a server may leave out, and this one does not.
NOT_HERE = {
    "3:": {"3.8.3-2": "filters with wildcards are supported", "7.0.0-1": "no connections to other servers are made"},
    "5:": {"3.2.2-10": "QoS 1 and 2 are supported", "3.2.2-13": "retained messages are supported"},
}


def expand(text):
    """Every number of one of these texts, in order."""
    for word in text.split():
        section, _, span = word.partition(":")
        first, _, last = span.partition("-")
        for n in range(int(first), int(last or first) + 1):
            yield f"MQTT-{section}-{n}"


def all_of(version):
    return list(expand(NUMBERS[version]))


def clients_of(version):
    return {f"MQTT-{word}" for word in CLIENT[version].split()}


def not_here(version):
    return {f"MQTT-{number}": why for number, why in NOT_HERE[version].items()}
