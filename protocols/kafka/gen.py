#!/usr/bin/env python3
"""Generates kafka_messages.h and kafka_messages.c from messages.def; wire.h says what they offer.

usage: gen.py messages.def kafka_messages.h kafka_messages.c

For each message a C struct (what a handler reads or fills) and a table of its fields (what wire.c walks to decode and
encode). Both come from one row, so that they cannot disagree. Standard library only: it runs in every build.
"""
import sys

C_TYPES = {"bool": "bool", "int8": "int8_t", "int16": "int16_t", "uint16": "uint16_t", "int32": "int32_t",
           "uint32": "uint32_t", "int64": "int64_t", "float64": "double", "string": "struct mqg_slice",
           "bytes": "struct mqg_slice", "records": "struct mqg_slice", "uuid": "struct kafka_uuid"}
LAST = 127      # "3+": to the last version
NONE = (1, 0)   # an empty range


class DefError(Exception):
    pass


def versions(text):
    if text.endswith("+"):
        return int(text[:-1]), LAST
    first, _, last = text.partition("-")
    return int(first), int(last or first)


class Field:
    def __init__(self, name, words, parent_range):
        self.array = name.endswith("[]")
        self.name = name.removesuffix("[]")
        self.type = words[0]
        self.range, self.null, self.tag, self.tagged, self.default = parent_range, NONE, -1, NONE, None
        self.fields = []
        for word in words[1:]:
            self.take(word)
        if self.type != "struct" and self.type not in C_TYPES:
            raise DefError(f"{name}: unknown type {self.type}")

    def take(self, word):
        if word.startswith("null"):
            self.null = versions(word[4:])
        elif word.startswith("tag"):
            tag, _, rest = word[3:].partition(":")
            self.tag, self.tagged = int(tag), versions(rest)
        elif word.startswith("v"):
            self.range = versions(word[1:])
        elif word.startswith("="):
            self.default = word[1:]
        else:
            raise DefError(f"{self.name}: what is {word}?")

    @property
    def number(self):
        """The default as the table keeps it: a number, -1 for a null."""
        if self.default in (None, "false"):
            return 0
        return {"null": -1, "true": 1}.get(self.default) or int(self.default, 0)


class Message:
    def __init__(self, words):
        self.kind, self.api, self.key = words[0], words[1], int(words[2])
        self.range = versions(words[3].removeprefix("v"))
        self.flexible = int(words[4].removeprefix("flex")) if len(words) > 4 else LAST
        self.fields = []

    @property
    def name(self):
        return f"kafka_{self.api}_{self.kind}"


def parse(text):
    messages, stack = [], []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        try:
            if depth == 0:
                messages.append(Message(words))
                stack = [messages[-1]]
                continue
            del stack[depth:]
            if len(stack) != depth:
                raise DefError("too deep")
            field = Field(words[0], words[1:], (0, LAST) if depth == 1 else stack[-1].range)
            stack[-1].fields.append(field)
            stack.append(field)
        except (DefError, ValueError, IndexError) as why:
            sys.exit(f"messages.def:{number}: {why}")
    return messages


def structs(owner, name):
    """Structs below the owner, innermost first, as (name, fields)."""
    for field in owner.fields:
        if field.type == "struct":
            yield from structs(field, f"{name}_{field.name}")
    yield name, owner.fields


def declare(name, fields):
    out = [f"struct {name} {{"]
    for field in fields:
        c_type = f"struct {name}_{field.name}" if field.type == "struct" else C_TYPES[field.type]
        if field.array:
            out += [f"    {c_type} *{field.name};", f"    int32_t {field.name}_n; /* -1: null */"]
        else:
            if field.type == "struct" and field.null != NONE:
                out.append(f"    bool has_{field.name};")
            out.append(f"    {c_type} {field.name};")
    return out + ["};", ""]


def row(name, field):
    sub = f"&{name}_{field.name}_layout" if field.type == "struct" else "NULL"
    extra = f"offsetof(struct {name}, {field.name}_n)" if field.array else \
        f"offsetof(struct {name}, has_{field.name})" if field.type == "struct" and field.null != NONE else "0"
    size = f"sizeof(struct {name}_{field.name})" if field.type == "struct" else f"sizeof({C_TYPES[field.type]})"
    ranges = ", ".join(f"{{{a}, {b}}}" for a, b in (field.range, field.null, field.tagged))
    return (f"    {{\"{field.name}\", KAFKA_{field.type.upper()}, {str(field.array).lower()}, {field.tag}, {ranges}, "
            f"offsetof(struct {name}, {field.name}), {extra}, {size}, {sub}, {field.number}}},")


def table(name, fields):
    out = []
    if fields:
        out = [f"static const struct kafka_field {name}_fields[] = {{", *[row(name, f) for f in fields], "};"]
    return out + [f"static const struct kafka_layout {name}_layout = {{\"{name}\", "
                  f"{f'{name}_fields' if fields else 'NULL'}, {len(fields)}, sizeof(struct {name})}};", ""]


def constants(messages):
    apis = sorted({(m.key, m.api) for m in messages})
    out = ["enum kafka_key {", *[f"    KAFKA_API_{api.upper()} = {key}," for key, api in apis], "};", ""]
    return out + [f"#define KAFKA_API_LAST {apis[-1][0]}", ""]


def header(messages):
    out = ["/* Made by gen.py from messages.def. */", "#ifndef KAFKA_MESSAGES_H", "#define KAFKA_MESSAGES_H", "",
           "#include \"wire.h\"", ""]
    out += constants(messages)
    for message in messages:
        for name, fields in structs(message, message.name):
            if not fields: # C has no empty structs
                out += [f"struct {name} {{", "    char nothing;", "};", ""]
            else:
                out += declare(name, fields)
        out += [f"extern const struct kafka_message {message.name}_message;", ""]
    return out + ["#endif"]


def source(messages):
    out = ["/* Made by gen.py from messages.def. */", "#include \"kafka_messages.h\"", ""]
    for message in messages:
        for name, fields in structs(message, message.name):
            out += table(name, fields)
        out += [f"const struct kafka_message {message.name}_message = {{\"{message.api}\", {message.key}, "
                f"{message.range[0]}, {message.range[1]}, {message.flexible}, &{message.name}_layout}};", ""]
    for kind in ("request", "response"):
        rows = [f"    [{m.key}] = &{m.name}_message," for m in messages if m.kind == kind]
        out += [f"const struct kafka_message *const kafka_{kind}s[KAFKA_API_LAST + 1] = {{", *rows, "};", ""]
    out += ["const size_t kafka_api_slots = KAFKA_API_LAST + 1;"]
    return out


def main(argv):
    definition, header_path, source_path = argv[-3:]
    with open(definition, encoding="utf-8") as file:
        messages = parse(file.read())
    for path, lines in ((header_path, header(messages)), (source_path, source(messages))):
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv)
