#!/usr/bin/env python3
"""Compares the descriptors that a proxy serves by reflection with the descriptors that Google publishes.

    descriptors.py PROXY

The published descriptors are those of googleapis-common-protos and of protobuf. Prints one line per file and one
line per difference. The exit code is 1 if there is a difference.
"""

import sys

import grpc
from google.longrunning import operations_pb2
from google.protobuf import (any_pb2, descriptor_pb2, duration_pb2, empty_pb2, field_mask_pb2, struct_pb2,
                             timestamp_pb2, wrappers_pb2)
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

FIELD = descriptor_pb2.FieldDescriptorProto

PUBLISHED = [operations_pb2, status_pb2, error_details_pb2, any_pb2, duration_pb2, empty_pb2, field_mask_pb2,
             struct_pb2, timestamp_pb2, wrappers_pb2]


def field_facts(field, oneofs):
    """The properties of a field that affect its wire format, its stubs and its JSON."""
    return {
        "name": field.name,
        "type": FIELD.Type.Name(field.type),
        "label": FIELD.Label.Name(field.label),
        "of": field.type_name,
        # proto3 represents `optional` as a oneof with one field.
        "oneof": oneofs[field.oneof_index].name if field.HasField("oneof_index") else None,
        "optional": field.proto3_optional,
        "json": field.json_name or camel(field.name),
        "packed": field.options.packed if field.options.HasField("packed") else None,
        "extends": field.extendee,
    }


def camel(name):
    """The JSON name that protobuf derives for a field without an explicit one."""
    first, *rest = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


def message_facts(message, path):
    """The facts of a message and of its nested types, by name."""
    facts = {path: {"message": True, "map": message.options.map_entry}}
    for field in message.field:
        facts[f"{path} field {field.number}"] = field_facts(field, message.oneof_decl)
    for nested in message.nested_type:
        facts |= message_facts(nested, f"{path}.{nested.name}")
    for enum in message.enum_type:
        facts |= enum_facts(enum, f"{path}.{enum.name}")
    return facts


def enum_facts(enum, path):
    """The values of an enum, by name."""
    return {f"{path} value {value.name}": value.number for value in enum.value}


def method_facts(method):
    """The types of a method, and which sides stream."""
    return {
        "input": method.input_type,
        "output": method.output_type,
        "streams": (method.client_streaming, method.server_streaming),
    }


def file_facts(file):
    """All facts of a file, by full name."""
    facts = {"syntax": file.syntax}
    for message in file.message_type:
        facts |= message_facts(message, f"{file.package}.{message.name}")
    for enum in file.enum_type:
        facts |= enum_facts(enum, f"{file.package}.{enum.name}")
    for extension in file.extension:
        facts[f"extension {extension.number} of {extension.extendee}"] = field_facts(extension, [])
    for service in file.service:
        for method in service.method:
            facts[f"{file.package}.{service.name}/{method.name}"] = method_facts(method)
    return facts


def served(database, name):
    """The facts of a file that the proxy serves. Empty if the proxy does not serve the file."""
    try:
        return file_facts(database.FindFileByName(name))
    except KeyError:
        return {}


def differences(mine, theirs):
    """A line for each fact that differs or is missing on one side."""
    for name in sorted(mine.keys() | theirs.keys()):
        if mine.get(name) != theirs.get(name):
            yield f"{name}: served {mine.get(name)}, published {theirs.get(name)}"


def main(proxy):
    """Compares every published file."""
    found = []
    with grpc.insecure_channel(proxy) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        for module in PUBLISHED:
            published = descriptor_pb2.FileDescriptorProto()
            module.DESCRIPTOR.CopyToProto(published)
            lines = list(differences(served(database, published.name), file_facts(published)))
            print(f"descriptors.py: {published.name}: {len(lines)} differences")
            found += [f"descriptors.py: {published.name}: {line}" for line in lines]
    sys.exit("\n".join(found) or None)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: descriptors.py PROXY")
    main(sys.argv[1])
