#!/usr/bin/env python3
"""Generates amqp_methods.h and amqp_methods.c from methods.def; methods.h says what they offer.

usage: gen.py methods.def amqp_methods.h amqp_methods.c

One table feeds structs, decoders, encoders, names and flags, so that they cannot disagree. The bytes that
come out are held against vectors of an independent encoder by wire_golden_test.c. Standard library only:
it runs in every build.
"""
import sys

SIZES = {"octet": 1, "short": 2, "long": 4, "longlong": 8}
C_TYPES = {"octet": "uint8_t", "short": "uint16_t", "long": "uint32_t", "longlong": "uint64_t",
           "shortstr": "struct mqg_slice", "longstr": "struct mqg_slice", "table": "struct mqg_slice",
           "bit": "bool"}
READ = {"octet": "mqg_cursor_u8(&c)", "short": "mqg_cursor_be16(&c)", "long": "mqg_cursor_be32(&c)",
        "longlong": "mqg_cursor_be64(&c)", "shortstr": "amqp_get_shortstr(&c)",
        "longstr": "amqp_get_longstr(&c)", "table": "amqp_get_longstr(&c)"}
WRITE = {"octet": "amqp_put_u8", "short": "amqp_put_be16", "long": "amqp_put_be32",
         "longlong": "amqp_put_be64", "shortstr": "amqp_put_shortstr", "longstr": "amqp_put_longstr",
         "table": "amqp_put_longstr"}
FROM = {"C": "AMQP_FROM_CLIENT", "S": "AMQP_FROM_SERVER", "B": "AMQP_FROM_CLIENT | AMQP_FROM_SERVER"}
FROM_TEXT = {"C": "client to server", "S": "server to client", "B": "either way"}
FLAGS = {"sync", "content", "ext", "inline"}


class Method:
    """One row of the table."""

    def __init__(self, klass, words, section):
        self.class_id, self.class_name = klass
        self.id, self.name, self.sender = int(words[0]), words[1], words[2]
        self.flags = set() if words[3] == "-" else set(words[3].split(","))
        self.args = [tuple(word.split(":")) for word in words[4:]]
        self.section = section
        unknown = (self.flags - FLAGS) | {t for _, t in self.args if t not in C_TYPES}
        if unknown or self.sender not in FROM:
            raise ValueError(f"{self.c}: {unknown or self.sender}")

    @property
    def c(self):
        return f"{self.class_name}_{self.name}"

    @property
    def enum(self):
        return "AMQP_" + self.c.upper()

    @property
    def spec_name(self):
        return f"{self.class_name}.{self.name.replace('_', '-')}"

    @property
    def inline(self):
        return "inline" in self.flags

    def groups(self):
        """Arguments in wire order, adjacent bits gathered: ('bits', [names]) or (type, name)."""
        out = []
        for name, kind in self.args:
            if kind != "bit":
                out.append((kind, name))
            elif out and out[-1][0] == "bits" and len(out[-1][1]) < 8:
                out[-1][1].append(name)
            else:
                out.append(("bits", [name]))
        return out

    def flag_expr(self):
        words = [FROM[self.sender]]
        words += ["AMQP_SYNC"] if "sync" in self.flags else []
        words += ["AMQP_CONTENT"] if "content" in self.flags else []
        words += ["AMQP_HAS_TABLE"] if any(t == "table" for _, t in self.args) else []
        return " | ".join(words)


def parse(path):
    methods, klass, section, place = [], None, None, 0
    with open(path, encoding="ascii") as lines:
        for line in lines:
            words = line.split("#")[0].split()
            if not words:
                continue
            if words[0] == "class":
                klass, section, place = (int(words[1]), words[2]), words[3], 0
                continue
            extension = "ext" in words[3].split(",")
            place += 0 if extension else 1
            methods.append(Method(klass, words, "RabbitMQ's extension" if extension
                                  else f"{section}.{place}"))
    ids = [(m.class_id, m.id) for m in methods]
    if len(set(ids)) != len(ids):
        raise ValueError("a method stands twice")
    return sorted(methods, key=lambda m: (m.class_id, m.id))


def struct(m):
    traits = [FROM_TEXT[m.sender]]
    traits += ["synchronous"] if "sync" in m.flags else []
    traits += ["carries content"] if "content" in m.flags else []
    where = m.section if m.section.startswith("R") else "Specification " + m.section
    yield f"/* {m.spec_name} ({m.class_id}, {m.id}): {', '.join(traits)}. {where}. */"
    yield f"struct amqp_{m.c} {{"
    for name, kind in m.args:
        note = " /* the table's content, its length before it taken off */" if kind == "table" else ""
        yield f"    {C_TYPES[kind]} {name};{note}"
    if not m.args:
        yield "    uint8_t none; /* no arguments; C wants a member */"
    yield "};"
    yield ""


def decode(m, storage):
    head = f"{storage}enum mqg_err amqp_{m.c}_decode(struct mqg_slice args, struct amqp_{m.c} *out)"
    yield head
    yield "{"
    yield "    struct mqg_cursor c = mqg_cursor_of(args);"
    if not m.args:
        yield "    out->none = 0;"
    n = 0
    for kind, name in m.groups():
        if kind != "bits":
            yield f"    out->{name} = {READ[kind]};"
            continue
        yield f"    const unsigned bits{n} = mqg_cursor_u8(&c);"
        for place, bit in enumerate(name):
            yield f"    out->{bit} = (bits{n} & 0x{1 << place:02x}u) != 0;"
        n += 1
    yield "    return mqg_cursor_done(&c) ? MQG_OK : MQG_MALFORMED;"
    yield "}"
    yield ""


def size(m):
    fixed, parts = 4, []
    for kind, name in m.groups():
        fixed += {"bits": 1, "shortstr": 1, "longstr": 4, "table": 4}.get(kind, 0) + SIZES.get(kind, 0)
        if kind in ("shortstr", "longstr", "table"):
            parts.append(f" + m->{name}.len")
    yield f"static inline size_t amqp_{m.c}_size(const struct amqp_{m.c} *m)"
    yield "{"
    if not parts:
        yield "    (void)m;"
    yield f"    return {fixed}u{''.join(parts)};"
    yield "}"
    yield ""


def write(m, storage):
    yield f"{storage}uint8_t *amqp_{m.c}_write(uint8_t *p, const struct amqp_{m.c} *m)"
    yield "{"
    if not m.args:
        yield "    (void)m;"
    yield f"    p = amqp_put_be32(p, {m.enum});"
    for kind, name in m.groups():
        if kind == "bits":
            bits = " | ".join(f"(unsigned)m->{bit}" + (f" << {at}" if at else "")
                              for at, bit in enumerate(name))
            yield f"    p = amqp_put_u8(p, (uint8_t)({bits}));"
        else:
            yield f"    p = {WRITE[kind]}(p, m->{name});"
    yield "    return p;"
    yield "}"
    yield ""


def frame(m):
    yield f"static inline size_t amqp_{m.c}_frame_size(const struct amqp_{m.c} *m)"
    yield "{"
    yield f"    return AMQP_FRAME_OVERHEAD_BYTES + amqp_{m.c}_size(m);"
    yield "}"
    yield ""
    yield f"static inline uint8_t *amqp_{m.c}_frame(uint8_t *p, uint16_t channel, const struct amqp_{m.c} *m)"
    yield "{"
    yield f"    p = amqp_put_frame_head(p, AMQP_FRAME_METHOD, channel, amqp_{m.c}_size(m));"
    yield f"    p = amqp_{m.c}_write(p, m);"
    yield "    return amqp_put_frame_end(p);"
    yield "}"
    yield ""


ANY = """\
/* One method of any kind, for tables, traces and tests. On the hot path call the typed functions. */
union amqp_any {
%s
};

/* The typed functions by id. decode: MQG_UNSUPPORTED for an id that is none; size and write assert. */
enum mqg_err amqp_any_decode(uint32_t id, struct mqg_slice args, union amqp_any *out) MQG_MUST_CHECK;
size_t amqp_any_size(uint32_t id, const union amqp_any *m);
uint8_t *amqp_any_write(uint8_t *p, uint32_t id, const union amqp_any *m);
"""

def header(methods):
    yield "/* Generated by gen.py from methods.def: change that, not this. Include methods.h. */"
    yield "#ifndef MQGATE_AMQP_METHODS_H\n#define MQGATE_AMQP_METHODS_H\n"
    yield '#include "wire.h"\n'
    yield "enum amqp_method {"
    for m in methods:
        yield f"    {m.enum} = {m.class_id} << 16 | {m.id},"
    yield "};\n"
    classes = sorted({(m.class_id, m.class_name) for m in methods})
    yield "enum amqp_class {"
    for number, name in classes:
        yield f"    AMQP_CLASS_{name.upper()} = {number},"
    yield "};\n"
    yield f"#define AMQP_METHOD_COUNT {len(methods)}\n"
    yield "/* X(ENUM, c_name, class_id, method_id, flags) for every method, in the order of ids. */"
    yield "#define AMQP_METHODS(X) \\"
    rows = [f"    X({m.enum}, {m.c}, {m.class_id}, {m.id}, {m.flag_expr()})" for m in methods]
    yield " \\\n".join(rows)
    yield ""
    for m in methods:
        yield f"/* ---- {m.spec_name} " + "-" * (100 - len(m.spec_name)) + " */\n"
        yield from struct(m)
        if m.inline:
            yield from decode(m, "MQG_MUST_CHECK static inline ")
        else:
            yield f"enum mqg_err amqp_{m.c}_decode(struct mqg_slice args,"
            yield f"                               struct amqp_{m.c} *out) MQG_MUST_CHECK;"
        yield from size(m)
        if m.inline:
            yield from write(m, "static inline ")
        else:
            yield f"uint8_t *amqp_{m.c}_write(uint8_t *p, const struct amqp_{m.c} *m);\n"
        yield from frame(m)
    yield ANY % "\n".join(f"    struct amqp_{m.c} {m.c};" for m in methods)
    yield "#endif"


def lookup(methods):
    yield "static const struct amqp_method_info methods_table[AMQP_METHOD_COUNT] = {"
    for place, m in enumerate(methods):
        yield f'    {{{m.enum}, {place}, {m.flag_expr()}, "{m.spec_name}"}},'
    yield "};\n"
    yield "const struct amqp_method_info *amqp_method_find(uint32_t id)\n{\n    switch (id) {"
    for place, m in enumerate(methods):
        yield f"    case {m.enum}: return &methods_table[{place}];"
    yield "    default: return NULL;\n    }\n}\n"
    yield "const char *amqp_method_name(uint32_t id)\n{"
    yield "    const struct amqp_method_info *info = amqp_method_find(id);"
    yield '    return info != NULL ? info->name : "unknown";\n}\n'
    yield "const char *amqp_class_name(uint16_t class_id)\n{\n    switch (class_id) {"
    for number, name in sorted({(m.class_id, m.class_name) for m in methods}):
        yield f'    case {number}: return "{name}";'
    yield '    default: return "unknown";\n    }\n}\n'


def any_functions(methods):
    yield "enum mqg_err amqp_any_decode(uint32_t id, struct mqg_slice args, union amqp_any *out)\n{"
    yield "    switch (id) {"
    for m in methods:
        yield f"    case {m.enum}: return amqp_{m.c}_decode(args, &out->{m.c});"
    yield "    default: return MQG_UNSUPPORTED;\n    }\n}\n"
    yield "size_t amqp_any_size(uint32_t id, const union amqp_any *m)\n{\n    switch (id) {"
    for m in methods:
        yield f"    case {m.enum}: return amqp_{m.c}_size(&m->{m.c});"
    yield '    default: mqg_assert_fail("a method of the table", __FILE__, __LINE__, __func__);\n    }\n}\n'
    yield "uint8_t *amqp_any_write(uint8_t *p, uint32_t id, const union amqp_any *m)\n{\n    switch (id) {"
    for m in methods:
        yield f"    case {m.enum}: return amqp_{m.c}_write(p, &m->{m.c});"
    yield '    default: mqg_assert_fail("a method of the table", __FILE__, __LINE__, __func__);\n    }\n}'


def source(methods):
    yield "/* Generated by gen.py from methods.def: change that, not this. */"
    yield '#include "methods.h"\n'
    for m in methods:
        if not m.inline:
            yield from decode(m, "")
            yield from write(m, "")
    yield from lookup(methods)
    yield from any_functions(methods)


def main():
    methods = parse(sys.argv[1])
    for path, lines in ((sys.argv[2], header(methods)), (sys.argv[3], source(methods))):
        with open(path, "w", encoding="ascii") as out:
            out.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
