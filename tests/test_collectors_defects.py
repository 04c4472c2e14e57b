"""Each seeded defect of the decoding core is caught: a check that no defect can fail is a defect."""

import json
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from tidy import ROOT

DEFECTS = {
    "the best levels are cut instead of the worst": (
        "book.c",
        "memmove(slots, slots + first, (size_t)h->used[i] * sizeof *slots);",
        "",
    ),
    "nothing is cut": ("live.c", "if (l->depth == 0 || cut <= 0)", "if (cut <= 0 || cut > 0)"),
    "a cut is not told": (
        "live.c",
        "for (int64_t i = 0; i < cut; i++)\n        tr_stage_level",
        "for (int64_t i = 1; i < cut; i++)\n        tr_stage_level",
    ),
    "the checksum takes bids first": (
        "checksum.c",
        "memcpy(text, t->crc_text[1], asks);\n    memcpy(text + asks, t->crc_text[0], bids);",
        "memcpy(text, t->crc_text[0], bids);\n    memcpy(text + bids, t->crc_text[1], asks);",
    ),
    "the checksum covers nine levels": (
        "checksum.c",
        "n < TR_CRC_LEVELS ? n : TR_CRC_LEVELS",
        "n < TR_CRC_LEVELS - 1 ? n : TR_CRC_LEVELS - 1",
    ),
    "text is rewritten one level too late": (
        "live.c",
        "t->stale_from[i] = t->nearest[i];",
        "t->stale_from[i] = t->nearest[i] + 1;",
    ),
    "every checksum is right": (
        "live.c",
        "return is_right ? TR_FRAME_OK : TR_FRAME_CHECKSUM;",
        "return TR_FRAME_OK;",
    ),
    "a crossed book passes": ("live.c", "if (tr_book_crossed(l->book))", "if (0)"),
    "levels are staged although the check failed": (
        "live.c",
        "l->outlet->staged = 0;\n    tr_live_set_state",
        "tr_live_set_state",
    ),
    "the sides change places": ("live.c", "{TR_BID, TR_ASK}", "{TR_ASK, TR_BID}"),
    "a snapshot keeps a side that it lacks": ("live.c", "tr_book_clear(l->book);", ""),
    "only a changed price is quoted": (
        "live_states.c",
        "if (memcmp(top, l->tail->top, sizeof top) == 0)",
        "if (top[0] == l->tail->top[0] && top[2] == l->tail->top[2])",
    ),
    "a delete keeps the level": ("book.h", "h->used[i]--;\n    h->solid[i]--;", "h->solid[i]--;"),
    "an insertion lands one too high": ("book.h", "mask) >= rank)", "mask) > rank)"),
    "a level that fills a hole is not counted": ("book.h", "h->count[i] += *before == 0;", ""),
    "a hole is filled without moving what lies between": (
        "book.h",
        "memmove(slots + down, slots + down + 1, (size_t)reach * sizeof *slots);",
        "",
    ),
    "holes are left among the best levels": (
        "book.h",
        "if (above >= TR_BOOK_SOLID) {",
        "if (above >= 1) {",
    ),
    "a delete near the best leaves too few solid slots": (
        "book.h",
        "tr_book_solidify(book, side);\n}",
        "(void)book;\n}",
    ),
    "a full book of holes is not squeezed": (
        "book.h",
        "tr_book_squeeze(book, side);\n        place",
        "place",
    ),
    "a snapshot from the book names holes": ("live_states.c", "if (levels[i].qty > 0)", "if (1)"),
    "a form pads no decimals": (
        "form_rows.h",
        "tr_power_of_ten[scale - decimals]",
        "tr_power_of_ten[0]",
    ),
    "a form takes a price of 0": ("form_rows.h", "pair->price > 0 ?", "pair->price >= 0 ?"),
    "a form takes digits beyond the scale": (
        "form_rows.h",
        "decimals > scale || digits + scale > TR_DIGITS_MAX",
        "digits + scale > TR_DIGITS_MAX || (decimals > scale && (decimals = scale) < 0)",
    ),
    "a form takes a level at a price of 0": (
        "form_rows.h",
        "return value[0] > 0 && value[1] >= 0;",
        "return 1;",
    ),
    "a form puts a level on the other side": (
        "form_rows.h",
        "rows->n[tr_book_side_index(m->side)] = 1;",
        "rows->n[tr_book_side_index(-m->side)] = 1;",
    ),
    "a form takes asks for bids": (
        "form_rows.h",
        "rows->n[s] += n - before;",
        "rows->n[0] += n - before;",
    ),
    "a form keeps the time of no row": (
        "form_rows.h",
        "time.text && tr_read_time(time.text, time.bytes, &rows->ts_newest)",
        "0",
    ),
    "short numbers are not padded": (
        "decimal.h",
        "const int64_t up = scale - d->decimals;",
        "const int64_t up = 0 * scale;",
    ),
    "the frame's first record claims to be its last": (
        "outlet.c",
        "o->records[n - 1].marks |= TR_MARK_LAST_IN_FRAME;",
        "o->records[0].marks |= TR_MARK_LAST_IN_FRAME;",
    ),
    "a form asks for no chain": (
        "live_forms.c",
        "return l->is_chained && m->previous == l->seq;",
        "return l->is_chained;",
    ),
    "a form takes a frame twice": (
        "live_forms.c",
        "if (known->kept_bytes == bytes && tr_same_bytes",
        "if (known->kept_bytes == bytes + 1 && tr_same_bytes",
    ),
    "a form takes an older frame": (
        "live_forms.c",
        "(size_t)time->bytes) >= 0;",
        "(size_t)time->bytes) != 1 << 20;",
    ),
    "a form knows makers for takers": (
        "form_text.h",
        "*side = -1;\n        return p + 4;",
        "*side = 1;\n        return p + 4;",
    ),
    "a form forgets the number": ("live_forms.c", "l->seq = m->last;", "l->seq = m->first;"),
    "a form takes trades that are not its": (
        "live_forms.c",
        "return known->is_allowed != 0;",
        "return known->is_allowed == 0;",
    ),
    "a form's trade is staged and kept back": (
        "live_forms.c",
        "if (status) {\n        tr_outlet_abandon(f->outlet);\n        return TR_FORM_NONE;",
        "if (status) {\n        tr_outlet_abandon(f->outlet);\n        return TR_FRAME_OK;",
    ),
    "no room is left for what follows a snapshot": (
        "live_states.c",
        "bids + asks + 2 + TR_CLOSING_RECORDS",
        "bids + asks + 2",
    ),
    "no room is left for what follows a cut": (
        "live.c",
        "tr_outlet_reserve(o, cut + TR_CLOSING_RECORDS)",
        "tr_outlet_reserve(o, cut)",
    ),
    "excess digits are dropped": (
        "decimal.h",
        "if (-up > TR_SCALE_MAX || d->mantissa % tr_power_of_ten[-up])",
        "if (-up > TR_SCALE_MAX)",
    ),
}


def includers(native: Path, name: str) -> set[str]:
    """Return the stems of the C files that are, or include at any depth, `name`."""
    names, found = {name}, set()
    while names:
        found |= names
        quoted = [f'#include "{name}"' for name in names]
        names = {
            path.name
            for path in native.glob("*.[ch]")
            if path.name not in found and any(line in path.read_text() for line in quoted)
        }
    return {Path(name).stem for name in found if name.endswith(".c")}


class Core:
    """The project's packages with a core of its own, whose decoding sources may be changed and linked anew."""

    def __init__(self, folder: Path, compiler: str) -> None:
        self.folder = folder
        self.compiler = compiler
        self.include = sysconfig.get_paths()["include"]
        for package in ("layouts", "shm", "collectors", "tests", "native"):
            ignore = shutil.ignore_patterns("*.so", "__pycache__", "*.o")
            shutil.copytree(ROOT / package, folder / package, ignore=ignore)
        code = "from native.build import ffibuilder; ffibuilder.emit_c_code('_native.c')"
        subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)
        self.objects = {
            path.stem: self.compile(path, folder / "native")
            for path in [folder / "_native.c", *sorted((folder / "native").glob("*.c"))]
        }

    def compile(self, source: Path, native: Path) -> Path:
        target = source.with_suffix(".o")
        command = [
            self.compiler,
            "-std=c11",
            "-O1",
            "-w",
            "-fPIC",
            "-c",
            str(source),
            "-o",
            str(target),
        ]
        command += [f"-I{self.include}", f"-I{native}", "-DPy_LIMITED_API=0x030b0000"]
        subprocess.run(command, check=True)
        return target

    def findings(self, defect: tuple[str, str, str] | None) -> list[str]:
        """Link the core with one change and return what the checks say."""
        native = self.folder / "changed"
        shutil.copytree(self.folder / "native", native)
        objects = dict(self.objects)
        try:
            if defect:
                name, old, new = defect
                text = (native / name).read_text()
                assert text.count(old) == 1, f"{name} no longer has this line once: {old}"
                (native / name).write_text(text.replace(old, new))
                for stem in includers(native, name):
                    objects[stem] = self.compile(native / f"{stem}.c", native)
            library = self.folder / "shm" / "_native.abi3.so"
            command = [self.compiler, "-shared", "-o", str(library), *map(str, objects.values())]
            subprocess.run(command, check=True)
        finally:
            shutil.rmtree(native)
        run = subprocess.run(
            [sys.executable, "tests/defects_run.py"],
            cwd=self.folder,
            env={"PYTHONPATH": str(self.folder), "PATH": ""},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return json.loads(run.stdout) if run.returncode == 0 else [f"it died: {run.stderr[-500:]}"]


@pytest.fixture(scope="module")
def core(tmp_path_factory, require_tool) -> Core:
    return Core(tmp_path_factory.mktemp("core") / "tree", require_tool("gcc"))


@pytest.mark.slow
def test_the_core_as_it_is_has_no_finding(core) -> None:
    """The checks pass on the sources as they are."""
    assert core.findings(None) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", DEFECTS)
def test_a_seeded_defect_is_found(core, name) -> None:
    """One changed line is named by at least one check."""
    assert core.findings(DEFECTS[name]), f"not caught: {name}"
