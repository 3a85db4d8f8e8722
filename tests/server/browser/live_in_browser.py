"""The live view, and the race of two modes."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect
from support.browsing import QUESTION, ask, bodies, mode, send


def test_diffusion_shows_the_block_being_unmasked(page: Page) -> None:
    sent = bodies(page)
    mode(page, "Diffusion")
    answer = ask(page, "Sort these numbers: 74, 31, 95, 12, 8, 40")
    assert [body["mode"] for body in sent] == ["diffusion"]
    view = answer.get_by_role("figure", name="Live view")
    masks, slider = view.locator(".mask"), view.get_by_role("slider", name="Pass")
    last = int(slider.get_attribute("max") or 0)
    seen = []
    for n in range(1, last + 1):
        slider.fill(str(n))
        seen.append(masks.count())
        expect(view.locator(".count")).to_have_text(f"pass {n - 1} of {last - 1}" if n > 1 else "prompt")
    assert f", {last - 1} passes" in answer.locator(".stats").inner_text(), "as many as the counters have"
    assert max(seen) > 0 and seen[-1] == 0, "masks, and none left at the end"
    assert view.locator(".sure[title*='%']").count() > 10
    text = answer.locator(".prose").inner_text()
    assert "".join(view.locator(".strip i:not(.end)").all_inner_texts()) == text


def test_self_spec_shows_drafts_kept_and_rejected(page: Page) -> None:
    mode(page, "Self-spec")
    answer = ask(page, QUESTION)
    view = answer.get_by_role("figure", name="Live view")
    share = answer.locator(".stats").inner_text().split(" % accepted")[0].split(" · ")[-1]
    kept, rejected = view.locator(".kept").count(), view.locator(".rejected").count()
    ended = 1  # the end of generation is accepted too, and not shown
    assert kept > 0 and round(100 * (kept + ended) / (kept + ended + rejected)) == int(share)
    view.get_by_role("slider", name="Pass").fill("2")
    assert view.locator(".draft").count() > 0
    view.get_by_role("button", name="Replay").click()
    expect(view.get_by_role("button", name="Pause")).to_be_visible()


def test_the_live_view_can_be_switched_off_and_its_passes_are_kept(page: Page) -> None:
    ask(page, "Hello")
    page.get_by_role("switch", name="Live view").uncheck()
    answer = ask(page, "How are you?")
    assert answer.get_by_role("figure").count() == 0
    page.reload()
    expect(page.get_by_role("switch", name="Live view")).not_to_be_checked()
    first = page.locator(".assistant").first
    first.get_by_role("button", name="Passes").click()
    expect(first.get_by_role("figure", name="Live view").locator(".strip i").first).to_be_visible()


def test_a_race_of_two_modes_and_what_becomes_of_it(page: Page) -> None:
    sent = bodies(page)
    page.get_by_role("switch", name="Race").check()
    expect(page.get_by_role("group", name="Decoding mode")).to_be_hidden()
    expect(page.get_by_label("First mode")).to_have_value("self-spec")
    send(page, QUESTION)
    race = page.get_by_role("region", name="Race")
    result = race.locator(".result")
    # Who is faster depends on what else the machine does.
    expect(result).to_contain_text(re.compile(r"(Self-spec|AR) is [\d.]+ times as fast as (AR|Self-spec)"))
    expect(result).to_contain_text("Both wrote the same text.")
    assert sorted(body["mode"] for body in sent) == ["ar", "self-spec"] and sent[0]["seed"] == sent[1]["seed"]
    passes = []
    for name in ("Self-spec", "AR"):
        lane = race.get_by_role("region", name=name, exact=True)
        figures = lane.locator(".figures").inner_text()
        assert "tokens/s" in figures
        passes.append(int(figures.split(" · ")[-1].split()[0]))
        expect(lane.locator("pre")).to_be_visible()
    assert passes[0] < passes[1]
    told = re.search(r"with (\d+) passes for (\d+)", result.inner_text())
    assert told is not None and sorted(map(int, told.groups())) == passes
    page.reload()
    expect(race.locator(".result")).to_contain_text("Both wrote the same text.")
    race.get_by_role("region", name="AR", exact=True).get_by_role("button", name="Go on with this one").click()
    expect(race).to_have_count(0)
    expect(page.locator(".stats")).to_contain_text("ar · ")
    expect(page.locator(".versions")).to_contain_text("2/2")
    page.get_by_role("switch", name="Race").uncheck()
    ask(page, "Hello")
    assert [message["role"] for message in sent[-1]["messages"]] == ["user", "assistant", "user"]


def test_each_mode_can_race_every_other(page: Page) -> None:
    page.get_by_role("switch", name="Race").check()
    page.get_by_label("First mode").select_option("diffusion")
    page.get_by_label("Second mode").select_option("self-spec")
    options = page.get_by_label("First mode").locator("option").all_inner_texts()
    assert options == ["Auto", "AR", "Diffusion"], "not against itself"
    send(page, "Hello")
    expect(page.locator(".race .result")).to_contain_text("times as fast")
