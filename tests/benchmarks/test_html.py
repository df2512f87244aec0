"""The page in a real browser where one is installed, and by its text everywhere."""

import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from made_reports import made_culane, made_latency, made_report

from benchmarks.__main__ import main
from benchmarks.accuracy import Form
from benchmarks.html import page
from benchmarks.html.charts import number
from trt_lane.device.state import DeviceState

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
VOID = {"meta", "link", "img", "rect", "line", "path", "br"}
LAYER = {
    "name": "conv<1>", "kind": "Conv", "inputs": ["INT8"], "outputs": ["INT8"],
    "onnx_nodes": ["conv<1>"], "macs": 10_000_000, "activation_macs": 0, "reason": "",
}  # fmt: skip


@pytest.fixture(scope="module")
def report():
    """A report with everything in it, names that must be escaped among them."""
    base = made_report(made_latency(0, starts=8, rounds=6), made_culane())
    rng = np.random.default_rng(0)
    float_form = Form(made_culane(), None, np.tile([3, 0, 0], (300, 1)), np.zeros(300))
    engine = replace(
        base.accuracy.forms["engine"],
        agreement=np.tile([3, 0, 0], (300, 1)),
        distortion_px=rng.uniform(0, 9, 300),
    )
    accuracy = replace(base.accuracy, forms={"engine": engine, "float": float_form})
    import base64

    import cv2

    picture = cv2.imencode(".jpg", rng.integers(0, 256, (230, 640, 3), np.uint8))[1]
    shown = {
        "name": "a&b.jpg",
        "caption": "a&b.jpg <worst>",
        "jpeg": base64.b64encode(picture.tobytes()).decode(),
    }
    peer = {"name": "PyTorch eager", "p50_ms": 30.0, "p99_ms": 40.0, "ratio": 3.0, "f1": 0.9}
    camera = {
        "scenario": "camera 30 Hz", "frames": 60, "late_share": 0.1, "p50_ms": 20.0, "max_ms": 40.0
    }  # fmt: skip
    low = {**LAYER, "inputs": ["FP32"], "reason": "kept in float", "ms": 0.25}
    return replace(
        base,
        accuracy=accuracy,
        pictures=(shown,) * 6,
        layers=tuple([LAYER] * 40 + [low]),
        peers=(peer, {"name": "OpenVINO", "missing": "not installed"}),
        scenarios=(*base.scenarios, camera),
        bytes={"engine": 5_000_000, "float_onnx": 20_000_000},
    )


@pytest.fixture(scope="module")
def html(report):
    return page(report)


class Outline(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.addresses, self.unbalanced = [], [], []

    def handle_starttag(self, tag, attrs):
        self.addresses += [v for k, v in attrs if k in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID and (not self.open or self.open.pop() != tag):
            self.unbalanced.append(tag)


def test_page_is_whole_and_asks_no_network(html):
    outline = Outline()
    outline.feed(html)
    assert outline.open == [] and outline.unbalanced == []
    assert outline.addresses and all(a.startswith("data:") for a in outline.addresses)
    assert "<script" not in html and "@import" not in html and "url(" not in html
    assert len(html.encode()) < 3_000_000


def test_summary_comes_first_and_sections_follow(html):
    assert html.index('<div class="cards">') < html.index("<h2>")
    titles = re.findall("<h2>(.*?)</h2>", html)
    assert titles == [
        "Latency", "Stages", "Scenarios", "Accuracy", "What else could run it", "Layers",
        "Worst frames", "Environment",
    ]  # fmt: skip


def test_figures_on_the_page_are_the_reports(html, report):
    assert f"{report.latency.summary()['stages']['total']['p50']:.2f} ms" in html
    assert f"{report.accuracy.figures()['F1']['engine']:.4f}" in html
    assert "<td>0.250</td>" in html and html.index("kept in float") < html.index("smaller layers")
    assert "97.6 % of the weighted layers" in html  # 40 of 41 equal layers
    assert "10.0 % of 60 frames late" in html
    assert "3.00 x" in html and "not installed" in html


def test_a_long_runs_states_are_behind_a_click_but_for_the_first_and_the_last(report):
    state = report.environment.states[1]
    during = tuple(replace(state, at_s=float(i), load_average=i / 10) for i in range(1, 90))
    states = (report.environment.states[0], *during, replace(state, when="after", at_s=90.0))
    long = page(replace(report, environment=replace(report.environment, states=states)))
    open_part, click = long.split("<summary>all 91 readings</summary>")
    shown = open_part[open_part.index("<h2>Environment") :]
    assert shown.count("<td>before</td>") == shown.count("<td>after</td>") == 1
    assert "<td>during</td>" not in shown and click.count("<td>during</td>") == 89


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({}, {}, ("–", "–")),
        ({"throttle": ()}, {"throttle": ("hot",)}, ("no", "hot")),
        ({"throttle_counts": {"core thermal limit": 7}},) * 2 + (("–", "no"),),
        (
            {"throttle_counts": {"over-current 3": 7}},
            {"throttle_counts": {"over-current 3": 9}, "throttle": ()},
            ("–", "over-current 3 +2"),
        ),
    ],
)
def test_throttling_is_denied_only_where_something_could_tell(report, before, after, words):
    states = (DeviceState(when="before", **before), DeviceState(when="after", **after))
    found = page(replace(report, environment=replace(report.environment, states=states)))
    rows = re.findall("<tr><td>(?:before|after)</td>.*?</tr>", found)
    assert tuple(re.findall("<td>([^<]*)</td></tr>", row)[0] for row in rows) == words


def test_p99_is_marked_only_where_enough_frames_tell_it(html):
    assert ">p99 " in html
    few = page(made_report(made_latency(0, starts=4, rounds=2, per_round=20)))
    assert ">p50 " in few and ">p99 " not in few


def test_a_planted_slow_down_is_told_on_the_page(report):
    slow = replace(report, conditions={"slow_down": 0.1})
    assert "every frame was made 10 % slower on purpose" in page(slow)
    assert "on purpose" not in page(report)


def test_names_are_escaped(html):
    assert "conv&lt;1&gt;" in html and "conv<1>" not in html
    assert "a&amp;b.jpg &lt;worst&gt;" in html


def test_a_report_of_the_latency_alone_has_no_empty_sections():
    titles = re.findall("<h2>(.*?)</h2>", page(made_report(made_latency(0))))
    assert titles == ["Latency", "Stages", "Scenarios", "Environment"]


def test_largest_pictures_of_a_long_run_stay_below_3_mb(report):
    long = replace(report, latency=made_latency(1, starts=12, rounds=20, per_round=60))
    assert len(page(long).encode()) < 3_000_000


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0123, "0.0123"), (9.666, "9.67"), (123.4, "123"), (0, "0"), (1500, "1500")],
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


def test_command_makes_the_page_beside_the_report(tmp_path, report, capsys):
    report.save(tmp_path / "report.json")
    assert main(["report", str(tmp_path)]) == 0
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


def browse(tmp_path, html, *flags):
    browser = next((b for b in BROWSERS if shutil.which(b)), None)
    if browser is None:
        pytest.skip(f"no browser here: none of {', '.join(BROWSERS)}")
    path = tmp_path / "page.html"
    path.write_text(html)
    command = [
        browser,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
    ]
    done = subprocess.run(
        [*command, f"--user-data-dir={tmp_path / 'profile'}", *flags, path.as_uri()],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-500:]
    return done


MEASURE = """<script>
const frame = document.querySelector('iframe');
frame.onload = () => {
  const page = frame.contentDocument.documentElement;
  const words = [...frame.contentDocument.querySelectorAll('p, td, th, li, h1, h2, text')];
  const px = words.map(e => parseFloat(frame.contentWindow.getComputedStyle(e).fontSize) *
    (e.tagName === 'text' ? e.ownerSVGElement.getBoundingClientRect().width / 360 : 1));
  const images = [...frame.contentDocument.images];
  document.title = [page.scrollWidth, Math.min(...px).toFixed(1),
    images.filter(i => i.complete && i.naturalWidth > 0).length, images.length].join(' ');
};
</script>"""


@pytest.mark.parametrize("width", [375, 1200])
def test_in_a_browser_nothing_is_wider_than_the_screen_and_words_are_readable(
    tmp_path, html, width
):
    from html import escape

    eager = html.replace('loading="lazy"', "")
    outer = (
        f'<!doctype html><iframe srcdoc="{escape(eager)}" style="width:{width}px;height:900px;'
        f'border:0"></iframe>{MEASURE}'
    )
    shown = browse(tmp_path, outer, "--dump-dom", "--virtual-time-budget=5000")
    found = re.search("<title>([0-9. ]+)</title>", shown.stdout)
    assert found, "the page did not load in the browser"
    wide, smallest_px, loaded, images = found[1].split()
    assert int(wide) <= width
    assert float(smallest_px) >= 10.5
    assert loaded == images == "6"


def test_in_a_browser_the_console_stays_empty(tmp_path, html):
    assert "CONSOLE" not in browse(tmp_path, html, "--dump-dom").stderr
    # What would be seen if it did not.
    broken = html.replace("</body>", "<script>absent()</script></body>")
    assert "CONSOLE" in browse(tmp_path, broken, "--dump-dom").stderr


def test_in_a_browser_it_can_be_printed(tmp_path, html):
    out = tmp_path / "page.pdf"
    browse(tmp_path, html, f"--print-to-pdf={out}", "--no-pdf-header-footer")
    pages = len(re.findall(rb"/Type */Page[^s]", out.read_bytes()))
    assert 2 <= pages <= 12
