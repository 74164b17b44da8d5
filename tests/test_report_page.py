"""The page in a real Chromium: it opens alone, draws, answers and sorts, wherever it is shown."""

from __future__ import annotations

import itertools
import math
import random
import re
import shutil
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import BEGIN, HOSTILE, WIDE, fill, run
from conftest import ROOT

from datamanager import DataManager
from datamanager.tables import printable

playwright = pytest.importorskip("playwright.sync_api", reason="needs the library of the dev extra")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: make deps-ci installs it"),
]
SHOTS = ROOT / "build" / "report"
NAMES = ["Qwen3-Coder-30B", WIDE, HOSTILE, "<b>bold</b> %{y} $x$", "100% &lt;"]
PLOTS = ["cost_over_time", "tokens_over_time", "share", "hit_share_over_time", "latency", "strips",
         "heat"]  # fmt: skip
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "usage.db"
    fill(path, NAMES, requests=500)
    with DataManager(path) as dm:  # of two models, the times of a request of no tokens
        for name in NAMES[1:3]:
            dm.add_model_request(name, [BEGIN + 7, 0, 0, 0, 0], duration=2.5, first_token=0.5)
    return path


@pytest.fixture(scope="module")
def files(database: Path) -> dict[str, Path]:
    found = {language: database.with_name(f"{language}.html") for language in ("en", "zh")}
    for language, file in found.items():
        options = ["--tz", "UTC", "--lang", language, "-o", str(file)]
        done = run("report", *options, "--db", str(database))
        assert done.returncode == 0, done.stderr
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as tools:
        started = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Open]:
    """Opens a file and waits until it is drawn; nothing else may have been asked for or said."""
    contexts, said, asked = [], [], []

    def open_file(file: Path, width: int = 1280, scheme: str = "light") -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        page.locator("html[data-drawn]").wait_for()
        assert asked.pop() == file.as_uri()
        return page

    yield open_file
    assert (said, asked) == ([], [])
    for context in contexts:
        context.close()


def drawn(page: Any, name: str, what: str) -> int:
    return int(page.locator(f"#{name} {what}").count())


# Which of the plots have a legend that lies on what the axis says, or beyond their own edge.
CLASHES = """names => names.filter(name => {
    const place = document.getElementById(name), legend = place.querySelector(".legend .bg");
    if (legend === null) return false;
    const box = legend.getBoundingClientRect(), whole = place.getBoundingClientRect();
    const under = [...place.querySelectorAll(".xtick text, .g-xtitle, .slice")]
        .map(part => part.getBoundingClientRect().bottom);
    return box.top < Math.max(...under) || box.bottom > whole.bottom || box.right > whole.right + 1;
})"""


def colours(page: Any, name: str) -> dict[str, str]:
    """Of each model in a plot."""
    traces = page.evaluate(f"document.getElementById('{name}').data")
    if name == "share":
        pairs = [zip(t["labels"], t["marker"]["colors"], strict=True) for t in traces]
        return dict(pair for found in pairs for pair in found)
    return {trace["name"]: trace["marker"]["color"] for trace in traces}


@pytest.mark.parametrize(
    ("language", "width", "scheme"),
    list(itertools.product(["en", "zh"], [390, 1280], ["light", "dark"])),
)
def test_opens(
    files: dict[str, Path], opened: Open, language: str, width: int, scheme: str
) -> None:
    page = opened(files[language], width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("document.documentElement.dataset.drawn") == scheme
    for name in PLOTS:
        assert page.locator(f"#{name}").bounding_box()["width"] <= width
    hidden = "places => places.filter(place => place.scrollWidth > place.clientWidth).length"
    assert width < 1280 or page.locator(".wide").evaluate_all(hidden) == 0  # no column to scroll to
    hours = 49  # of the requests of two days that begin within an hour
    for name in PLOTS[:2]:
        assert drawn(page, name, ".trace.bars") == len(NAMES)
        assert drawn(page, name, ".trace.bars .point path") == hours * len(NAMES)
    assert drawn(page, "share", ".slice") == 2 * len(NAMES)
    assert drawn(page, "hit_share_over_time", ".scatterlayer .trace") == len(NAMES)
    assert drawn(page, "latency", ".trace.bars") == 2 * 3
    assert drawn(page, "latency", ".trace.bars .point path") == 2 * 3 * 2
    assert drawn(page, "speed", "tbody tr") == 2
    assert drawn(page, "strips", ".trace.bars .point path") == 1 + len(NAMES)
    assert drawn(page, "heat", ".heatmaplayer image") == 1
    assert page.evaluate(CLASHES, PLOTS) == []
    dates = page.locator("#cost_over_time .xtick text").all_text_contents()
    assert any("2025年" in date for date in dates) == (language == "zh"), dates
    title = {"en": "LLM usage and cost", "zh": "LLM 用量与费用"}[language]
    assert page.title() == page.locator("h1").inner_text() == title
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{language}-{width}-{scheme}.png", full_page=True)


def test_names_are_only_text(files: dict[str, Path], opened: Open) -> None:
    page = opened(files["en"])
    wanted = {printable(name) for name in NAMES}
    assert {*page.locator("#models tbody td:first-child").all_inner_texts()} == wanted
    shown = page.locator("#cost_over_time .legendtext").all_text_contents()
    cut = {name if len(name) <= 28 else name[:27] + "…" for name in wanted}
    assert set(shown) == cut
    assert page.locator("svg b, svg a, td b, #cost_over_time script").count() == 0


def test_a_model_has_one_colour(files: dict[str, Path], opened: Open) -> None:
    page = opened(files["en"])
    wanted = colours(page, "cost_over_time")
    assert len(set(wanted.values())) == len(NAMES)
    for name in ("tokens_over_time", "share", "hit_share_over_time"):
        assert colours(page, name) == wanted
    program, *strips = colours(page, "strips").items()
    assert dict(strips) == wanted and program[1] not in wanted.values()


def test_nothing_leaves_the_page(files: dict[str, Path], opened: Open, browser: Any) -> None:
    """Plotly has a button that uploads a plot; and what a page sends, a browser would let go."""
    page = opened(files["en"])
    page.locator("#cost_over_time").hover()
    buttons = page.locator(".modebar-btn").evaluate_all("all => all.map(b => b.dataset.title)")
    assert {title.lower() for title in buttons} == {
        "download plot as a png", "zoom", "pan", "zoom in", "zoom out", "autoscale", "reset axes",
    }  # fmt: skip
    other = browser.new_page()  # where errors may be said
    other.goto(files["en"].as_uri())
    refused = other.evaluate(
        """() => new Promise(done => {
            addEventListener("securitypolicyviolation", event => done(event.effectiveDirective));
            document.body.innerHTML = "<form action='https://127.0.0.1:9' method=post></form>";
            document.forms[0].submit();
        })"""
    )
    assert refused == "form-action"
    other.close()


def test_a_plot_of_a_notebook_stays_there(database: Path, browser: Any, tmp_path: Path) -> None:
    with DataManager(database) as dm:
        dm.usage(by="hour", tz="UTC").plot().write_html(tmp_path / "plot.html")
    page = browser.new_page()
    page.goto((tmp_path / "plot.html").as_uri())
    page.locator(".trace.bars").first.wait_for(state="attached")
    buttons = page.locator(".modebar-btn").evaluate_all("all => all.map(b => b.dataset.title)")
    assert "Zoom" in buttons and not any("Share" in str(title) for title in buttons)
    page.close()


def test_touched(files: dict[str, Path], browser: Any) -> None:
    """Where nothing hovers the buttons would lie on the plots for ever."""
    context = browser.new_context(
        viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True
    )
    page = context.new_page()
    page.goto(files["zh"].as_uri())
    page.locator("html[data-drawn]").wait_for()
    assert page.locator("svg.main-svg").count() > 0 and page.locator(".modebar-btn").count() == 0
    context.close()


def test_hover(files: dict[str, Path], opened: Open, database: Path) -> None:
    page = opened(files["en"])
    page.locator("#cost_over_time").scroll_into_view_if_needed()
    bar = page.locator("#cost_over_time .trace.bars").first.locator(".point path").nth(20)
    box = bar.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    label = page.locator("#cost_over_time .hoverlayer .hovertext").first
    label.wait_for()
    text = label.text_content()
    shown = page.evaluate("document.getElementById('cost_over_time').data[0]")
    with DataManager(database) as dm:
        hours = dm.usage(by="hour", tz="UTC")
    costs = [row.cost for row in hours if printable(str(row.model)) in text]
    assert len(costs) == 49 and shown["y"] == costs
    assert "Cost: " in text and "2025" in text


def test_legend(files: dict[str, Path], opened: Open) -> None:
    """A click takes a model out of the plot, a second one puts it back."""
    page = opened(files["en"])
    page.locator("#tokens_over_time").scroll_into_view_if_needed()
    toggle = page.locator("#tokens_over_time .legendtoggle").first
    for left in (len(NAMES) - 1, len(NAMES)):
        toggle.click()
        page.wait_for_function(
            "left => document.querySelectorAll('#tokens_over_time .trace.bars').length === left",
            arg=left,
        )


def test_zoom(files: dict[str, Path], opened: Open) -> None:
    page = opened(files["en"])
    place = page.locator("#cost_over_time .nsewdrag")
    place.scroll_into_view_if_needed()
    box = place.bounding_box()
    span = (
        "(([a, b]) => new Date(b) - new Date(a))"
        "(document.getElementById('cost_over_time').layout.xaxis.range)"
    )
    before = page.evaluate(span)
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 55, steps=5)
    page.mouse.up()
    page.wait_for_function(f"before => {span} < before / 2", arg=before)


def test_sorting(files: dict[str, Path], opened: Open, database: Path) -> None:
    page = opened(files["en"])
    with DataManager(database) as dm:
        rows = list(dm.usage())
    columns = {"Model": "model", "Cost": "cost", "Uptime of models": "runtime_seconds"}
    for title, field in columns.items():
        keys = [getattr(row, field) for row in rows]
        wanted = [
            printable(rows[at].model) for at in sorted(range(len(rows)), key=keys.__getitem__)
        ]
        button = page.locator("#models th button", has_text=re.compile(f"^{title}$"))
        for descending in (True, False):
            button.click()
            names = page.locator("#models tbody td:first-child").all_inner_texts()
            state = page.locator("#models th[aria-sort]").get_attribute("aria-sort")
            assert state == ("descending" if descending else "ascending")
            if field == "model":
                assert sorted(names) == sorted(wanted)
            elif len(set(keys)) == len(keys):
                assert names == (wanted[::-1] if descending else wanted)
    assert page.locator("#models tfoot td").first.inner_text() == "Total"


def test_the_light_goes_out(files: dict[str, Path], opened: Open) -> None:
    page = opened(files["en"])
    colour = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(colour) == "rgb(255, 255, 255)"
    page.emulate_media(color_scheme="dark")
    page.locator("html[data-drawn=dark]").wait_for()
    assert page.evaluate(colour) != "rgb(255, 255, 255)"


def test_print(files: dict[str, Path], opened: Open) -> None:
    """On paper it is light, whatever the screen is, and all is there."""
    page = opened(files["zh"], scheme="dark")
    assert page.pdf().startswith(b"%PDF")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"


def test_a_print_fits_the_paper(files: dict[str, Path], opened: Open) -> None:
    """Plots are drawn as wide as A4, at once; no table is cut; then all is as it was."""
    page = opened(files["en"], scheme="dark")
    width = "document.querySelector('#cost_over_time .main-svg').getBoundingClientRect().width"
    before = page.evaluate(width)
    drawn_at_once = page.evaluate(
        f"dispatchEvent(new Event('beforeprint')), [{width}, document.querySelector('#heat svg')"
        ".getBoundingClientRect().width]"
    )
    assert drawn_at_once == [680, 680] and before > 1000
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 700, "height": 900})
    cut = "places => places.filter(place => place.scrollWidth > place.clientWidth + 1).length"
    assert page.locator(".wide, .summary div").evaluate_all(cut) == 0
    total = "getComputedStyle(document.querySelector('#invoice tfoot')).display"
    assert page.evaluate(total) == "table-row-group"  # else each page would end with the total
    page.emulate_media(media="screen")
    page.set_viewport_size({"width": 1280, "height": 900})
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.wait_for_function(f"before => {width} === before", arg=before)
    page.locator("html[data-drawn=dark]").wait_for()


def test_without_script(files: dict[str, Path], browser: Any) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(files["en"].as_uri())
    assert page.locator("#invoice tfoot td").last.inner_text() != ""
    assert "Plots need JavaScript" in page.locator("noscript").inner_text()
    context.close()


def test_the_figures_are_those_of_python(
    files: dict[str, Path], opened: Open, database: Path
) -> None:
    page = opened(files["en"])
    with DataManager(database) as dm:
        invoice, total = dm.invoice(), dm.usage().total
    assert page.locator("#invoice tfoot td").last.inner_text() == f"{invoice.total:,f}"
    amounts = page.locator("#invoice tbody tr td:last-child").all_inner_texts()
    assert [amount.rstrip("0") for amount in amounts] == [
        f"{line.cost_exact:,f}".rstrip("0") for line in invoice
    ]
    figures = page.locator(".summary dd").all_inner_texts()
    assert figures[:4] == [
        f"{total.cost_exact:,.6f}",
        f"{total.requests:,}",
        f"{total.input_tokens:,}",
        f"{total.output_tokens:,}",
    ]


def test_an_empty_page(tmp_path: Path, opened: Open) -> None:
    DataManager(tmp_path / "usage.db").close()
    assert (
        run("report", "-o", str(tmp_path / "r.html"), "--db", str(tmp_path / "usage.db")).returncode
        == 0
    )
    page = opened(tmp_path / "r.html")
    assert page.locator(".plot svg, #speed").count() == 0


def test_without_hours(database: Path, opened: Open, tmp_path: Path) -> None:
    """Of pruned days there is all but the map of hours."""
    copy = tmp_path / "usage.db"
    with DataManager(database) as dm:
        dm.backup(str(copy))
    with DataManager(copy) as dm:
        dm.prune(BEGIN + 2 * 86_400, "day", tz="UTC")
    options = ["--tz", "UTC", "-o", str(tmp_path / "r.html"), "--db", str(copy)]
    assert run("report", *options).returncode == 0
    page = opened(tmp_path / "r.html")
    assert not page.locator("#section-heat").is_visible()
    assert drawn(page, "cost_over_time", ".trace.bars") == len(NAMES)


def a_week(path: Path) -> None:
    """Of three models, as days and nights are; from a seed."""
    chance = random.Random(5)
    midnight = BEGIN - BEGIN % 86_400
    tiers = [[1, 0, 2048, 2, 8, True, 0.4], [2, 2048, 0, 4, 16, True, 1]]
    shares = {"Qwen3-Coder-30B": 0.55, "Llama-3.3-70B": 0.3, "embedding-small": 0.15}
    with DataManager(path, durability="normal") as dm:
        for name, share in shares.items():
            rows: list[list[float]] = []
            for hour in range(7 * 24):
                busy = math.sin((hour % 24 - 7) / 24 * math.tau) + 1.1
                for _ in range(int(chance.gauss(30, 6) * share * busy * (1 - hour / 300))):
                    tokens, output = int(chance.lognormvariate(7, 1)) + 1, chance.randrange(20, 900)
                    hits = int(tokens * chance.random() ** 2)
                    moment = midnight + (hour + chance.random()) * 3600
                    rows.append([moment, tokens, output, hits, tokens - hits])
            dm.add_model_requests(name, rows)
            dm.set_pricing(name, tiers=tiers)
            dm.add_model_runtime_start(name, midnight)
            dm.update_model_runtime_end(name, midnight + 7 * 86_400)


def test_the_picture_of_the_readme(tmp_path: Path, opened: Open) -> None:
    """What is in docs/ is a copy of what this leaves."""
    a_week(tmp_path / "usage.db")
    words = ["--tz", "UTC", "-o", str(tmp_path / "r.html"), "--db", str(tmp_path / "usage.db")]
    assert run("report", *words).returncode == 0
    page = opened(tmp_path / "r.html", 1000)
    page.set_viewport_size({"width": 1000, "height": 1010})
    page.locator(".modebar-container").first.wait_for(state="attached")
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / "readme.png")
    for picture in (SHOTS / "readme.png", ROOT / "docs" / "report.png"):
        assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert picture.stat().st_size < 200_000


def test_a_million_requests_of_a_year(tmp_path: Path, opened: Open) -> None:
    """20 models, each day of a year: under 5 MB, in under 5 s."""
    path, file = tmp_path / "usage.db", tmp_path / "report.html"
    count, year_s = 50_000, 365 * 86_400
    with DataManager(path, durability="normal") as dm:
        for number in range(20):
            step = year_s / count
            times = array("d", (BEGIN + number + i * step for i in range(count)))
            tokens = {
                name: array("q", ((i * 7919 + number) % most for i in range(count)))
                for name, most in (("input_tokens", 60_000), ("output_tokens", 3_000),
                                   ("cache_n", 9_000), ("prompt_n", 50_000))
            }  # fmt: skip
            dm.add_model_requests(f"model {number}", {"timestamp": times, **tokens})
            dm.set_pricing(
                f"model {number}",
                tiers=[[1, 0, 32768, 2, 8, True, 0.4], [2, 32768, 0, 4, 16, True, 1]],
            )
            with dm.batch():
                for day in range(365):
                    dm.add_model_runtime_start(f"model {number}", BEGIN + day * 86_400)
                    dm.update_model_runtime_end(f"model {number}", BEGIN + day * 86_400 + 40_000)
    began = time.monotonic()
    done = run("report", "-o", str(file), "--db", str(path))
    seconds = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    assert file.stat().st_size < 5_000_000 and seconds < 5
    page = opened(file)
    assert drawn(page, "cost_over_time", ".trace.bars") == 13
