"""The rules of docs/architecture.md, as functions on texts: each returns the problems it finds, a line each."""

import re

# What the table calls a library, and how its headers begin.
THIRD_PARTY = {
    "nlohmann/json": ("nlohmann/",),
    "xxHash": ("xxhash.h",),
    "sentencepiece": ("sentencepiece",),
    "PCRE2": ("pcre2.h",),
    "LibTorch": ("ATen/", "c10/", "torch/"),
    "CLI11": ("CLI/",),
    "yaml-cpp": ("yaml-cpp/",),
    "Eigen": ("Eigen/",),
    "Graphviz libcgraph": ("graphviz/", "cgraph.h"),
    "CUDA": ("cuda", "nvml.h"),
    "NCCL": ("nccl.h",),
}
# Kernels in executor/ops/ may include these of LibTorch: they compile in about a second.
KERNEL_HEADERS = ("ATen/cpu/vec/", "ATen/Parallel.h")
POSIX = ("sys/", "linux/", "netinet/", "arpa/", "bits/")
# Sources that print although their room must not, and why.
MAY_HAVE_EFFECTS = {"core/check.cpp": "says which check failed before it aborts"}
WITH_EFFECTS = ("tools", "executor", "tests")

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)
EFFECT = re.compile(r"\b(?:exit|_exit|getenv|setenv|printf|fprintf|puts|system)\s*\(|std::(?:cout|cerr|clog)\b"
                    r"|_clock::now\b")
# Both written so that this file does not hold what it forbids.
HOME_PATH = re.compile(r"(?<![\w.}])/(?:home|root|Users|work)/[\w.]")
SOURCE_HOST = re.compile(r"\b(?:pypi\.org|pythonhosted\.org|(?:deb|security|ftp)\.debian\.org|debian\.net|github\.com"
                         r"|githubusercontent\.com|ghcr\.io|docker\.io|pkg\.dev|download\.pytorch\.org"
                         r"|anaconda\.(?:org|com)|registry\.npmjs\.org|snapshot\.debian\.org)\b")


class Rooms:
    """Who may include whom and which libraries, read from the table of docs/architecture.md."""

    def __init__(self, text):
        self.arrows, self.libraries = {}, {}
        for line in text.splitlines():
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            match = re.fullmatch(r"`(\w+)/`", cells[0])
            if not match or len(cells) != 4:
                continue
            room = match.group(1)
            self.arrows[room] = set(self._words(cells[2])) | {room}
            self.libraries[room] = set(self._words(cells[3]))
        unknown = {name for names in self.libraries.values() for name in names} - set(THIRD_PARTY)
        if unknown:
            raise ValueError(f"docs/architecture.md names libraries without a rule here: {sorted(unknown)}")

    @staticmethod
    def _words(cell):
        return [] if cell == "-" else [word.strip() for word in cell.split(",")]

    def room_of(self, path):
        room = path.split("/")[0]
        return room if room in self.arrows or room == "tests" else None


def without_comments(text):
    """C++ with its comments blanked; line numbers stay."""
    blank = lambda match: re.sub(r"[^\n]", " ", match.group(0))
    return re.sub(r"//[^\n]*|/\*.*?\*/", blank, text, flags=re.DOTALL)


def line_of(text, at):
    return text.count("\n", 0, at) + 1


def library_of(header):
    for name, beginnings in THIRD_PARTY.items():
        if header.startswith(beginnings):
            return name
    return None


def check_include(rooms, path, quote, header, exists):
    """The problem of one include, or None. `exists(path)` tells whether a file of the project is there."""
    room = rooms.room_of(path)
    if quote == '"':
        if room == "tests" and exists("/".join(path.split("/")[:-1] + [header])):
            return None
        target = rooms.room_of(header)
        # What CMake writes from a template is a header of the template's room.
        if target is None or not (exists(header) or exists(header + ".in")):
            return f'"{header}" is no file of a room: includes are rooted at the repository'
        if room == "tests" or (target != "tests" and target in rooms.arrows[room]):
            return None
        return f'{room}/ may not include {target}/: "{header}"'
    if rooms.room_of(header) is not None and exists(header):
        return f"<{header}> is of this project: include it in quotes"
    library = library_of(header)
    if library is None:
        known = header.startswith(POSIX) or "/" not in header and (header.endswith(".h") or "." not in header)
        return None if known or header.startswith("gtest/") and room == "tests" else f"<{header}>: unknown library"
    # The meter is no part of ftplan: it is loaded into the peer's process.
    if room == "tests" or (library == "LibTorch" and path == "tools/bench/allocation_meter.cpp"):
        return None
    if library not in rooms.libraries[room]:
        return f"{room}/ may not include {library}: <{header}>"
    if library == "LibTorch" and not path.startswith("executor/torch_"):
        if not (path.startswith("executor/ops/") and header.startswith(KERNEL_HEADERS)):
            return f"LibTorch belongs to executor/torch_* files: <{header}>"
    return None


def check_source(rooms, path, text, exists):
    """Includes and effects of one C++ file."""
    problems = []
    # Includes are found before comments are blanked: their quotes may hold two slashes.
    for match in INCLUDE.finditer(text):
        problem = check_include(rooms, path, match.group(1), match.group(2), exists)
        if problem:
            problems.append(f"{path}:{line_of(text, match.start(1))}: {problem}")
    room = rooms.room_of(path)
    if room not in WITH_EFFECTS and path not in MAY_HAVE_EFFECTS:
        code = without_comments(text)
        for match in EFFECT.finditer(code):
            problems.append(f"{path}:{line_of(code, match.start())}: {match.group(0)} belongs to tools/ or executor/")
    return problems


def check_links(rooms, path, text):
    """DEPS and PRIVATE_DEPS of a room's CMakeLists.txt."""
    room, problems = rooms.room_of(path), []
    if room in (None, "tests"):
        return problems
    code = re.sub(r"#[^\n]*", "", text)
    for match in re.finditer(r"\bftplan::(\w+)", code):
        target = match.group(1)
        if target in rooms.arrows and target not in rooms.arrows[room]:
            problems.append(f"{path}:{line_of(code, match.start())}: {room}/ may not link {target}/")
    return problems


def check_texts(path, text):
    """What no file may hold: paths of somebody's machine, and where somebody's packages come from."""
    problems = []
    for pattern, words in ((HOME_PATH, "a path of one machine"), (SOURCE_HOST, "a package source's host")):
        for match in pattern.finditer(text):
            problems.append(f"{path}:{line_of(text, match.start())}: {words}: {match.group(0)}")
    return problems
