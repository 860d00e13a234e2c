"""Renders the pages of write_pages in headless Chromium and looks at what came out.

Skipped with exit code 77 where there is no Chromium.
"""

import html
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib

WRITE_PAGES = sys.argv[1]
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def chromium(folder, *words):
    """Runs the browser on a profile of its own and returns what it printed."""
    with tempfile.TemporaryDirectory(dir=folder) as profile:
        done = subprocess.run(
            [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--hide-scrollbars", f"--user-data-dir={profile}", "--virtual-time-budget=2000", *words],
            capture_output=True, text=True, timeout=100, check=False)
    if done.returncode != 0:
        raise AssertionError(f"{BROWSER} ended with {done.returncode}: {done.stderr[-500:]}")
    return done.stdout


def dom(folder, page):
    return chromium(folder, "--dump-dom", page.as_uri())


def screenshot(folder, page, width, height, *words):
    """The page as (width, height, rows of RGB bytes)."""
    picture = folder / "page.png"
    chromium(folder, f"--window-size={width},{height}", f"--screenshot={picture}", *words, page.as_uri())
    return read_png(picture.read_bytes())


def read_png(data):
    """Decodes an 8-bit RGB or RGBA PNG, as Chromium writes them."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise AssertionError("the screenshot is no PNG")
    at, packed = 8, b""
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + size]
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", body[:10])
        elif kind == b"IDAT":
            packed += body
        at += 12 + size
    if depth != 8 or colour not in (2, 6):
        raise AssertionError(f"unexpected PNG: depth {depth}, colour type {colour}")
    pixel = 3 if colour == 2 else 4
    raw, line = zlib.decompress(packed), width * pixel
    rows, above = [], bytearray(line)
    for y in range(height):
        start = y * (line + 1)
        above = unfilter(raw[start], bytearray(raw[start + 1:start + 1 + line]), above, pixel)
        rows.append(above)
    return width, height, pixel, rows


def unfilter(kind, row, above, pixel):
    if kind == 0:
        return row
    for i, value in enumerate(row):
        left = row[i - pixel] if i >= pixel else 0
        up, corner = above[i], above[i - pixel] if i >= pixel else 0
        if kind == 1:
            guess = left
        elif kind == 2:
            guess = up
        elif kind == 3:
            guess = (left + up) // 2
        else:
            nearest = min((abs(up - corner), 0), (abs(left - corner), 1), (abs(left + up - 2 * corner), 2))[1]
            guess = (left, up, corner)[nearest]
        row[i] = (value + guess) & 255
    return row


def colours(image):
    """How many pixels each colour has."""
    _, _, pixel, rows = image
    counts = {}
    for row in rows:
        for x in range(0, len(row), pixel):
            key = (row[x], row[x + 1], row[x + 2])
            counts[key] = counts.get(key, 0) + 1
    return counts


def check(condition, what):
    """An assert that python -O keeps."""
    if not condition:
        raise AssertionError(what)


def rgb(text):
    return tuple(int(text[i:i + 2], 16) for i in (1, 3, 5))


def check_texts(folder):
    text = dom(folder, folder / "whole.html")
    for expected in ("toy-llama, LoRA", "Predicted equals measured, to the byte, on all 9 lines.", "62,914,560",
                     "peak 98.0 MiB", "backward, layer 0: attention", "Why this strategy", "short by 376 MiB",
                     "Training loss fell from 4.0000", "The device's peak is exact.", "</svg>"):
        check(expected in text, f"the page does not say {expected!r}")
    check("\u2260" not in text, "an equal run is marked as different")
    check("\u2260 +64" in dom(folder, folder / "different.html"), "a difference is not marked")
    check("Measured" not in dom(folder, folder / "plan.html"), "a plan alone shows measured numbers")


def check_hostile_texts_are_text(folder):
    text = dom(folder, folder / "hostile.html")
    check("<script" not in text and "<img" not in text, "a text of the plan became markup")
    check("<title>broken" not in text, "a text of the plan was executed")


def check_pictures(folder):
    # The areas of the memory chart in the colours of page.css, on paper, light and dark.
    for words, paper, weights in (((), "#fbfaf6", "#3d5f9e"),
                                  (("--blink-settings=preferredColorScheme=0",), "#121316", "#6f95dd")):
        image = screenshot(folder, folder / "whole.html", 1200, 1600, *words)
        width, height, _, _ = image
        check((width, height) == (1200, 1600), f"the screenshot is {width} x {height}")
        counts = colours(image)
        share = counts.get(rgb(paper), 0) / (width * height)
        check(0.3 < share < 0.95, f"{share:.0%} of the page is paper")
        area = counts.get(rgb(weights), 0)
        check(area > 50_000, f"the weights cover {area} pixels of the chart")
        check(len(counts) > 100, f"the page has {len(counts)} colours")


def check_layout(folder):
    """Every text of a drawn part lies inside its box, and no box over another."""
    if 'id="layout"' not in (folder / "whole.html").read_text(encoding="utf-8"):
        print("the layout is not looked at: built without Graphviz")
        return
    measure = """<script>
      const boxes = [...document.querySelectorAll('.layout .node')].map(node => ({
        box: node.querySelector('path').getBoundingClientRect(),
        texts: [...node.querySelectorAll('text')].map(text => text.getBoundingClientRect())}));
      const inside = (a, b) => a.left >= b.left && a.right <= b.right && a.top >= b.top && a.bottom <= b.bottom;
      const apart = (a, b) => a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
      const out = boxes.flatMap(part => part.texts.filter(text => !inside(text, part.box))).length;
      const over = boxes.filter((a, i) => boxes.some((b, j) => i < j && !apart(a.box, b.box))).length;
      const lines = boxes.flatMap(part => part.texts.map((a, i) =>
        part.texts.some((b, j) => i < j && !apart(a, b)))).filter(Boolean).length;
      document.title = `${boxes.length} parts, ${out} texts outside, ${over} over others, ${lines} overlapping`;
    </script>"""
    page = folder / "measured.html"
    page.write_text((folder / "whole.html").read_text(encoding="utf-8") + measure, encoding="utf-8")
    text = dom(folder, page)
    title = text[text.find("<title>") + 7:text.find("</title>")]
    check(title == "5 parts, 0 texts outside, 0 over others, 0 overlapping", f"the layout: {title}")


def check_phone(folder):
    """Nothing is wider than a phone: the page measures itself inside a frame of 390 pixels."""
    measure = "<script>parent.document.title = 'width ' + document.documentElement.scrollWidth</script>"
    for name in ("whole", "different", "plan", "hostile"):
        page = html.escape((folder / f"{name}.html").read_text(encoding="utf-8") + measure)
        frame = folder / "frame.html"
        frame.write_text(f'<!doctype html><iframe width=390 height=900 style="border:0" srcdoc="{page}"></iframe>',
                         encoding="utf-8")
        text = dom(folder, frame)
        title = text[text.find("<title>") + 7:text.find("</title>")]
        check(title == "width 390", f"{name}.html on a screen of 390 pixels: {title}")


def main():
    if BROWSER is None:
        print("skipped: Chromium is missing (tools/setup tests installs it)")
        return 77
    with tempfile.TemporaryDirectory(prefix="ftplan-reports-", ignore_cleanup_errors=True) as name:
        folder = pathlib.Path(name)
        subprocess.run([WRITE_PAGES, str(folder)], check=True)
        for test in (check_texts, check_hostile_texts_are_text, check_pictures, check_layout, check_phone):
            test(folder)
            print(f"ok  {test.__name__}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
