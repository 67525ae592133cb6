"""Runs one test of Paho's interoperability suite, which reads its host and port from its own command line only.

    paho_driver.py FOLDER SUITE PORT [TEST]     without a test: prints their names
"""
import logging
import sys
import types
import unittest

TOPICS = ["TopicA", "TopicA/B", "Topic/C", "TopicA/C", "/TopicA"]
WILD = ["TopicA/+", "+/C", "#", "/#", "/+", "+/+", "TopicA/#"]


def load(folder, suite, port):
    sys.path.insert(0, folder)
    sys.argv = [suite]
    module = types.ModuleType("paho_suite")
    sys.modules["paho_suite"] = module
    prefix = "client_test5/" if suite == "client_test5.py" else ""
    module.__dict__.update(host="127.0.0.1", port=port, topic_prefix=prefix, topics=[prefix + t for t in TOPICS],
                           wildtopics=[prefix + t for t in WILD], nosubscribe_topics=("test/nosubscribe",))
    with open(f"{folder}/{suite}") as source:
        exec(compile(source.read(), suite, "exec"), module.__dict__)
    logging.getLogger().setLevel(logging.CRITICAL)
    return module


def main():
    folder, suite, port, *name = sys.argv[1:]
    module = load(folder, suite, int(port))
    if not name:
        print("\n".join(unittest.TestLoader().getTestCaseNames(module.Test)))
        return
    result = unittest.TextTestRunner(verbosity=2).run(unittest.TestSuite([module.Test(name[0])]))
    sys.exit(0 if result.wasSuccessful() else 1)


main()
