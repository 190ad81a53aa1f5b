"""Repositories for Debian's Bazel 4.2.3 without a network.

WORKSPACE alone loads this. A current Bazel reads MODULE.bazel instead and gets the real
rules and packages.
"""

# Rules that are still part of Bazel 4, by the repository and folder from which its own
# tools and our BUILD files load them.
_NATIVE_RULES = {
    "rules_cc": ("cc", [
        "cc_binary",
        "cc_library",
        "cc_proto_library",
        "cc_test",
        "cc_toolchain",
        "cc_toolchain_suite",
        "objc_library",
    ]),
    "rules_java": ("java", [
        "java_binary",
        "java_import",
        "java_library",
        "java_proto_library",
        "java_runtime",
        "java_toolchain",
    ]),
    "rules_python": ("python", ["py_library", "py_test"]),
}

_PACKAGE = """\
# Installed in .venv/ by `make setup`, so there is nothing to build.
py_library(name = "{}", visibility = ["//visibility:public"])
"""

_PYTHON = """\
load("@bazel_tools//tools/python:toolchain.bzl", "py_runtime_pair")

py_runtime(
    name = "python3",
    interpreter_path = "{}",
    python_version = "PY3",
    stub_shebang = "#!/usr/bin/env python3",
)

py_runtime_pair(name = "pair", py3_runtime = ":python3")

toolchain(
    name = "toolchain",
    toolchain = ":pair",
    toolchain_type = "@bazel_tools//tools/python:toolchain_type",
)
"""

def _native_rules_impl(repository_ctx):
    folder = repository_ctx.attr.folder
    repository_ctx.file(folder + "/BUILD", executable = False)
    repository_ctx.file(folder + "/defs.bzl", "\n".join([
        "{0} = native.{0}".format(rule)
        for rule in repository_ctx.attr.rules
    ]), executable = False)

_native_rules = repository_rule(
    implementation = _native_rules_impl,
    attrs = {"folder": attr.string(), "rules": attr.string_list()},
)

def _locked_packages_impl(repository_ctx):
    for line in repository_ctx.read(repository_ctx.attr.lock).splitlines():
        name, found, _ = line.partition("==")
        if found and not line.startswith((" ", "#")):
            name = name.lower().replace("-", "_").replace(".", "_")
            repository_ctx.file(name + "/BUILD", _PACKAGE.format(name), executable = False)

_locked_packages = repository_rule(
    implementation = _locked_packages_impl,
    attrs = {"lock": attr.label()},
)

def _virtual_environment_impl(repository_ctx):
    root = repository_ctx.path(Label("//:WORKSPACE")).dirname
    python = "{}/.venv/bin/python".format(root)
    if not repository_ctx.path(python).exists:
        fail("there is no .venv/ yet: run `make setup` first")
    repository_ctx.file("BUILD", _PYTHON.format(python), executable = False)

_virtual_environment = repository_rule(
    implementation = _virtual_environment_impl,
    local = True,
)

def _nothing_impl(repository_ctx):
    repository_ctx.file("BUILD", """\
filegroup(name = "coverage_report_generator", visibility = ["//visibility:public"])
""", executable = False)

_no_coverage_tools = repository_rule(implementation = _nothing_impl)

def offline_repositories():
    """Declares everything that WORKSPACE, the BUILD files and Bazel itself refer to."""
    for name, (folder, rules) in _NATIVE_RULES.items():
        _native_rules(name = name, folder = folder, rules = rules)
    _no_coverage_tools(name = "remote_coverage_tools")
    _locked_packages(name = "pypi", lock = "//:requirements.txt")
    _locked_packages(name = "pypi_dev", lock = "//:requirements-dev.txt")
    _virtual_environment(name = "virtual_environment")
