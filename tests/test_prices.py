"""The price history: what holds when, however prices are set."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from datetime import UTC, datetime
from typing import Any

import pytest

import datamanager
from datamanager import DataManager, Tariff, TierPricing

LOW = TierPricing(1, 0, 32768, 2.0, 8.0, True, 0.4)
HIGH = TierPricing(2, 32768, 131072, 4.0, 16.0, True, 0.8)
OLD, PAST, FUTURE = 1000.0, 2_000.0, time.time() + 86_400.0


def use(dm: DataManager, at: float) -> None:
    dm.add_model_request("m", [at, 1, 1, 0, 1])


def edit(path: str, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        for statement in statements:
            db.execute(statement)


def test_nothing_set(dm: DataManager) -> None:
    use(dm, OLD)
    assert dm.get_price_history("m") == [Tariff(None, True, 0.0, "graduated", [])]


def test_setting_up_is_one_change(dm: DataManager) -> None:
    use(dm, OLD)  # imported from before
    dm.add_tier_pricing("m", HIGH)
    dm.add_tier_pricing("m", LOW)
    dm.update_hourly_price("m", 0.5)
    dm.update_billing_method("m", False)
    dm.set_billing_strategy("m", "volume")
    assert dm.get_price_history("m") == [Tariff(None, False, 0.5, "volume", [LOW, HIGH])]
    with pytest.raises(datamanager.TierExistsError):
        dm.add_tier_pricing("m", LOW)


def test_a_change_after_use_holds_from_now(dm: DataManager) -> None:
    dm.add_tier_pricing("m", LOW)
    use(dm, FUTURE)
    before = time.time()
    dm.update_hourly_price("m", 0.5)
    after = time.time()
    first, second = dm.get_price_history("m")
    assert first == Tariff(None, True, 0.0, "graduated", [LOW])
    assert second.effective_from is not None
    assert before <= second.effective_from <= after
    assert second == Tariff(second.effective_from, True, 0.5, "graduated", [LOW])


def test_a_later_run_is_use_too(dm: DataManager) -> None:
    dm.update_hourly_price("m", 0.5)
    dm.add_model_runtime_start("m", OLD)
    dm.update_hourly_price("m", 1.5)
    assert [tariff.hourly_price for tariff in dm.get_price_history("m")] == [1.5]
    dm.update_model_runtime_end("m", FUTURE)
    dm.update_hourly_price("m", 2.5)
    assert [tariff.hourly_price for tariff in dm.get_price_history("m")] == [1.5, 2.5]


def test_a_run_that_goes_on_is_use(path: str) -> None:
    """The host says when a run has ended, and not before: what it has run for stays as it was."""
    begin = time.time() - 3 * 86_400
    with DataManager(path) as dm:
        dm.set_pricing("m", hourly_price=1.0, use_tier_pricing=False)
        dm.add_model_runtime_start("m", begin)
        dm.set_pricing("m", hourly_price=2.0, effective_from=begin + 86_400)
        dm.update_hourly_price("m", 10.0)
        dm.update_hourly_price("m", 20.0)  # at once: the same change
        assert [tariff.hourly_price for tariff in dm.get_price_history("m")] == [1.0, 2.0, 20.0]
        edit(path, f"DELETE FROM datamanager_price_changes WHERE effective_from > {begin}")
        edit(path, f"UPDATE datamanager_price_changes SET changed_at = {begin}")
        dm.update_hourly_price("m", 3.0)
        assert dm.get_price_history("m")[0].hourly_price == 1.0


def test_a_request_at_the_moment_of_a_change_is_use(dm: DataManager) -> None:
    dm.update_hourly_price("m", 1.0)
    dm.update_hourly_price("m", 2.0, effective_from=PAST)
    use(dm, PAST)
    dm.update_hourly_price("m", 3.0)
    assert [tariff.hourly_price for tariff in dm.get_price_history("m")] == [1.0, 2.0, 3.0]


def test_the_past_and_the_future(dm: DataManager) -> None:
    dm.set_pricing("m", tiers=[LOW], hourly_price=1.0)
    dm.update_hourly_price("m", 9.0, effective_from=FUTURE)
    dm.set_pricing(
        "m",
        tiers=[HIGH, LOW],
        effective_from=datetime.fromtimestamp(PAST, UTC),
    )
    assert dm.get_price_history("m") == [
        Tariff(None, True, 1.0, "graduated", [LOW]),
        Tariff(PAST, True, 1.0, "graduated", [LOW, HIGH]),
        Tariff(FUTURE, True, 9.0, "graduated", [LOW, HIGH]),
    ]
    billing = dm.get_model_billing("m")  # what holds now
    assert (billing.hourly_price, billing.tier_pricing) == (1.0, [LOW, HIGH])


def test_dating_back_does_not_undo_what_came_later(dm: DataManager) -> None:
    dm.update_hourly_price("m", 1.0, effective_from=300)
    dm.set_billing_strategy("m", "volume", effective_from=200)
    dm.update_hourly_price("m", 2.0, effective_from=100)
    assert [
        (tariff.effective_from, tariff.hourly_price, tariff.strategy)
        for tariff in dm.get_price_history("m")
    ] == [
        (None, 0.0, "graduated"),
        (100.0, 2.0, "graduated"),
        (200.0, 2.0, "volume"),
        (300.0, 1.0, "volume"),
    ]
    dm.update_hourly_price("m", 3.0, effective_from=100)  # the same moment: corrected
    assert [tariff.hourly_price for tariff in dm.get_price_history("m")] == [0.0, 3.0, 3.0, 1.0]


def test_a_change_of_one_tier_leaves_the_others_to_other_changes(dm: DataManager) -> None:
    """Also where it holds later than they do, but was made before them."""
    middle, dear = (
        TierPricing(1, 0, 32768, 3, 9, True, 1),
        TierPricing(2, 32768, 131072, 5, 20, False, 0),
    )
    cheap = TierPricing(2, 32768, 131072, 1, 1, False, 0)
    third = TierPricing(3, 131072, 0, 6, 24, False, 0)
    dm.set_pricing("m", tiers=[LOW, HIGH])
    use(dm, time.time())
    dm.update_tier_pricing("m", dear, effective_from=FUTURE)
    dm.update_tier_pricing("m", middle)
    dm.add_tier_pricing("m", third)
    at = [tariff.tier_pricing for tariff in dm.get_price_history("m")]
    assert at == [[LOW, HIGH], [middle, HIGH, third], [middle, dear, third]]
    dm.delete_tier_pricing("m", 3)
    dm.update_tier_pricing("m", LOW, effective_from=FUTURE - 1)
    at = [tariff.tier_pricing for tariff in dm.get_price_history("m")]
    assert at == [[LOW, HIGH], [middle, HIGH], [LOW, HIGH], [LOW, dear]]
    dm.update_tier_pricing("m", cheap, effective_from=PAST)  # FUTURE was told of this one itself
    at = [tariff.tier_pricing for tariff in dm.get_price_history("m")]
    assert at == [[LOW, HIGH], [LOW, cheap], [middle, cheap], [LOW, cheap], [LOW, dear]]


def test_a_change_of_all_tiers_goes_on_beside_one(dm: DataManager) -> None:
    """In a change that was told of another tier, with what is added and without what has gone."""
    dear = TierPricing(2, 32768, 131072, 5, 20, False, 0)
    other, third = (
        TierPricing(1, 0, 32768, 3, 9, True, 1),
        TierPricing(3, 131072, 0, 6, 24, True, 1),
    )
    dm.set_pricing("m", tiers=[LOW, HIGH])
    dm.update_tier_pricing("m", dear, effective_from=FUTURE)
    dm.delete_tier_pricing("m", 1, effective_from=FUTURE + 1)
    dm.set_pricing("m", tiers=[other, HIGH, third], effective_from=PAST)
    at = [tariff.tier_pricing for tariff in dm.get_price_history("m")]
    assert at == [[LOW, HIGH], [other, HIGH, third], [other, dear, third], [dear, third]]
    dm.set_pricing("m", tiers=[LOW, HIGH], effective_from=PAST)
    at = [tariff.tier_pricing for tariff in dm.get_price_history("m")]
    assert at == [[LOW, HIGH], [LOW, HIGH], [LOW, dear], [dear]]


def test_a_change_of_one_tier_ends_where_all_are_set(path: str) -> None:
    """Also where that sets just what held before, and after the file was opened anew."""
    other = TierPricing(1, 0, 32768, 3, 9, True, 1)
    with DataManager(path) as dm:
        dm.set_pricing("m", tiers=[LOW])
        dm.add_tier_pricing("m", HIGH, effective_from=FUTURE)
        dm.set_pricing("m", tiers=[LOW, HIGH], effective_from=FUTURE + 1)
    with DataManager(path) as dm:
        dm.update_tier_pricing("m", other, effective_from=PAST)
        at = [tariff.tier_pricing for tariff in dm.get_price_history("m")]
        assert at == [[LOW], [other], [other, HIGH], [LOW, HIGH]]


def test_a_change_of_one_tier_that_later_ones_have_no_place_for(dm: DataManager) -> None:
    wide = TierPricing(1, 0, 40000, 2.0, 8.0, False, 0)
    dm.set_pricing("m", tiers=[LOW])
    dm.add_tier_pricing("m", HIGH, effective_from=FUTURE)
    before = dm.get_price_history("m")
    with pytest.raises(
        datamanager.InvalidDataError, match=r"overlap tier 1 .* of the prices that "
    ):
        dm.update_tier_pricing("m", wide, effective_from=PAST)
    assert dm.get_price_history("m") == before


def test_what_has_a_date_keeps_it(dm: DataManager) -> None:
    """A change of now does not take the place of one that was given another moment."""
    dm.set_pricing("m", hourly_price=1.0)
    dm.set_pricing("m", hourly_price=3.0, effective_from=PAST)
    dm.set_pricing("m", hourly_price=6.0)
    dm.set_pricing("m", hourly_price=7.0)  # this takes that of the one before it
    history = dm.get_price_history("m")
    assert [tariff.hourly_price for tariff in history] == [1.0, 3.0, 7.0]
    assert history[1].effective_from == PAST and history[2].effective_from is not None
    assert history[2].effective_from > time.time() - 3600


def test_tiers_of_their_moment(dm: DataManager) -> None:
    dm.add_tier_pricing("m", LOW, effective_from=100)
    with pytest.raises(datamanager.TierNotFoundError):
        dm.delete_tier_pricing("m", 1, effective_from=50)
    with pytest.raises(datamanager.InvalidDataError, match="would overlap tier 1"):
        dm.add_tier_pricing("m", [3, 5, 10, 1, 1, False, 0], effective_from=100)
    dm.delete_tier_pricing("m", 1, effective_from=200)
    tiers = [tariff.tier_pricing for tariff in dm.get_price_history("m")]
    assert tiers == [[], [LOW], []]
    assert dm.get_model_billing("m").tier_pricing == []


FREE = TierPricing(1, 0, 32768, 0.0, 0.0, False, 0.0)


def test_a_free_first_tier(path: str) -> None:
    """It looks like the row that the older class begins with, and is a tier like any other."""
    with DataManager(path) as dm:
        dm.set_pricing("m", tiers=[FREE, HIGH], strategy="volume")
        dm.add_model_request("m", [FUTURE, 0, 1_000_000, 0, 0])
        assert dm.usage("m")[0].cost == 0.0
        assert dm.get_model_billing("m").tier_pricing == [FREE, HIGH]
        assert len(dm.get_price_history("m")) == 1
        assert dm.check() == []
        dm.delete_tier_pricing("m", 1)
        assert dm.get_model_billing("m").tier_pricing == [HIGH]
        dm.add_tier_pricing("other", FREE)
        dm.update_tier_pricing("other", FREE)
        dm.delete_tier_pricing("other", 1)
        assert dm.get_model_billing("other").tier_pricing == []


def test_stored_and_shared(path: str) -> None:
    with DataManager(path) as dm:
        dm.set_pricing("m", tiers=[LOW, HIGH], strategy="cumulative", effective_from=PAST)
        dm.set_pricing("other", hourly_price=1.0)
        history = dm.get_price_history("m")
    with DataManager(path, read_only=True) as dm:
        assert dm.get_price_history("m") == history
        assert len(dm.get_price_history("other")) == 1


def test_deleting_the_model_deletes_its_history(path: str) -> None:
    with DataManager(path) as dm:
        dm.set_pricing("m", tiers=[LOW], hourly_price=1.0)
        dm.set_pricing("other", tiers=[LOW])
        dm.delete_model_tables("m")
        use(dm, OLD)
        assert dm.get_price_history("m") == [Tariff(None, True, 0.0, "graduated", [])]
    with contextlib.closing(sqlite3.connect(path)) as db:
        for table in ("datamanager_price_changes", "datamanager_price_tiers"):
            assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (1,)


def test_what_the_tables_said_has_held_since_ever(path: str) -> None:
    """Adopted, or the tables beside were dropped: nothing is lost but the history itself."""
    with DataManager(path) as dm:
        dm.set_pricing("m", tiers=[LOW], hourly_price=1.0)
        use(dm, OLD)
    edit(path, "DROP TABLE datamanager_price_changes", "DROP TABLE datamanager_price_tiers")
    with DataManager(path) as dm:
        assert dm.get_price_history("m") == [Tariff(None, True, 1.0, "graduated", [LOW])]
        dm.update_hourly_price("m", 2.0)
        first, second = dm.get_price_history("m")
    assert first == Tariff(None, True, 1.0, "graduated", [LOW])
    assert (second.hourly_price, second.tier_pricing) == (2.0, [LOW])


@pytest.mark.parametrize(
    ("tiers", "why"),
    [
        ("(1,0,32768,2,8,1,.4),(2,0,65536,4,16,1,.8)", "tier 2 .* overlap"),
        ("(1,100,10,2,8,0,.4)", "end_tokens must be above start_tokens 100"),
        ("(1,0,0,1e27,8,0,.4)", "input_price_per_million must be a price from 0 to 1e26"),
    ],
)
def test_first_prices_that_bill_nobody_are_put_right_since_ever(
    path: str, tiers: str, why: str
) -> None:
    """Of another program, before this one ever changed a price: they have billed nothing so far."""
    with DataManager(path) as dm:
        use(dm, OLD)
        dm.set_pricing("good", tiers=[LOW])
        edit(path, f"INSERT INTO {dm.get_safe_model_name('m')}_tier_pricing VALUES{tiers}")
    with DataManager(path) as dm:
        with pytest.raises(datamanager.CorruptDataError, match=why):
            dm.usage()
        with pytest.raises(datamanager.CorruptDataError, match=f"{why}.*only a change from now on"):
            dm.set_pricing("m", tiers=[HIGH], effective_from=PAST)
        with pytest.raises(datamanager.CorruptDataError, match=why):
            dm.update_hourly_price("m", 1.0)
        dm.set_pricing("m", tiers=[HIGH], hourly_price=1.0)
        assert dm.get_price_history("m") == [Tariff(None, True, 1.0, "graduated", [HIGH])]
        assert (
            dm.usage().total.cost == 0.0 and [f for f in dm.check() if f.severity == "error"] == []
        )


@pytest.mark.parametrize("end", ["9223372036854775807", "9007199254740993", "9e999", "1e20"])
def test_an_end_above_all_counts_is_none(path: str, end: str) -> None:
    """As other programs may write that there is none."""
    with DataManager(path) as dm:
        dm.add_model_request("m", [OLD, 40_000, 0, 0, 40_000])
        safe = dm.get_safe_model_name("m")
        edit(path, f"INSERT INTO {safe}_tier_pricing VALUES(1,0,{end},1e6,8,0,.4)")
    with DataManager(path) as dm:
        assert dm.get_model_billing("m").tier_pricing[0].end_tokens == 0
        assert dm.usage("m")[0].cost == 40_000.0 and dm.check() == []
        dm.update_hourly_price("m", 1.0)
        assert [t.tier_pricing[0].end_tokens for t in dm.get_price_history("m")] == [0, 0]


def test_another_programs_change_is_kept(path: str) -> None:
    with DataManager(path) as dm:
        dm.set_pricing("m", tiers=[LOW], hourly_price=1.0)
        safe = dm.get_safe_model_name("m")
        edit(path, f"UPDATE {safe}_billing SET hourly_price = 7.0")
        dm.add_tier_pricing("m", HIGH)
        assert dm.get_model_billing("m").hourly_price == 7.0
        first, second = dm.get_price_history("m")
        assert (first.hourly_price, second.hourly_price) == (1.0, 7.0)
        assert second.tier_pricing == [LOW, HIGH]


def test_another_programs_change_is_todays_price(path: str) -> None:
    """Since when is not known: it counts from the moment at which we see it."""
    with DataManager(path) as dm:
        dm.set_pricing("m", tiers=[LOW], strategy="volume")
        use(dm, OLD)
        safe = dm.get_safe_model_name("m")
        edit(path, f"UPDATE {safe}_tier_pricing SET input_price_per_million = 1e6")
        before = time.time()
        first, second = dm.get_price_history("m")
        assert (first.effective_from, first.tier_pricing) == (None, [LOW])
        assert second.effective_from is not None
        assert before <= second.effective_from <= time.time()
        assert second.strategy == "volume"
        assert second.tier_pricing == dm.get_model_billing("m").tier_pricing
        assert dm.cost("m", 1, 0).cost == 1.0
        assert dm.usage("m")[0].cost == 1e-5
        assert dm.usage("m", prices="current")[0].cost == 1.000008


@pytest.mark.parametrize("ask", ["usage", "get_price_history", "get_model_billing", "open"])
def test_another_programs_price_holds_from_when_it_is_seen(path: str, ask: str) -> None:
    """The moment stays, or it would run ahead of all that is used."""
    with DataManager(path) as dm:
        dm.set_pricing("m", tiers=[TierPricing(1, 0, 0, 1e6, 0, False, 0)])
        use(dm, OLD)
        safe = dm.get_safe_model_name("m")
    with contextlib.ExitStack() as stack:
        dm = stack.enter_context(DataManager(path))
        edit(path, f"UPDATE {safe}_tier_pricing SET input_price_per_million = 5e6")
        if ask == "open":
            dm.close()
            dm = stack.enter_context(DataManager(path))
        else:
            getattr(dm, ask)("m")
        use(dm, time.time())
        assert dm.usage("m")[0].cost == 1.0 + 5.0
        history = dm.get_price_history("m")
        assert len(history) == 2
        assert dm.get_price_history("m") == history
    with DataManager(path, read_only=True) as dm:
        assert dm.get_price_history("m") == history


def test_a_reader_does_not_keep_another_programs_price(path: str) -> None:
    with DataManager(path) as dm:
        dm.update_hourly_price("m", 1.0)
        safe = dm.get_safe_model_name("m")
    edit(path, f"UPDATE {safe}_billing SET hourly_price = 7.0")
    with DataManager(path, read_only=True) as dm:
        assert dm.get_model_billing("m").hourly_price == 7.0
        assert dm.get_price_history("m") != dm.get_price_history("m")


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE {}_billing SET hourly_price = 1e27",
        "UPDATE {}_tier_pricing SET start_tokens = 5 WHERE tier_index = 2",
        "DELETE FROM {}_billing",
    ],
)
def test_a_price_that_bills_nobody_is_not_kept(path: str, change: str) -> None:
    """Once stored it would be in the way of every question; put right, all is as it was."""
    with DataManager(path) as dm:
        dm.set_pricing("m", tiers=[LOW, HIGH], hourly_price=1.0)
        use(dm, OLD)
        before, safe = dm.usage("m"), dm.get_safe_model_name("m")
    edit(
        path,
        f"CREATE TABLE was AS SELECT * FROM {safe}_billing",
        f"CREATE TABLE tier AS SELECT * FROM {safe}_tier_pricing",
        change.format(safe),
    )
    with DataManager(path) as dm:
        with contextlib.suppress(datamanager.CorruptDataError):
            dm.usage("m")
        edit(
            path,
            *(f"DELETE FROM {safe}_{name}" for name in ("billing", "tier_pricing")),
            f"INSERT INTO {safe}_billing SELECT * FROM was",
            f"INSERT INTO {safe}_tier_pricing SELECT * FROM tier",
        )
        assert dm.usage("m") == before
        assert len(dm.get_price_history("m")) == 1


def test_a_clock_that_is_set_back_changes_no_cost(path: str) -> None:
    """What the tables show is then of a change that is yet to come, and still ours."""
    with DataManager(path) as dm:
        dm.set_pricing("m", tiers=[TierPricing(1, 0, 0, 1e6, 0, False, 0)])
        use(dm, FUTURE - 1)
        dm.set_pricing("m", tiers=[TierPricing(1, 0, 0, 1e7, 0, False, 0)], effective_from=FUTURE)
        use(dm, FUTURE)
        safe, history = dm.get_safe_model_name("m"), dm.get_price_history("m")
        # As the file is where that change was made at its moment, with the clock there.
        edit(
            path,
            f"UPDATE datamanager_price_changes SET changed_at={FUTURE} WHERE effective_from > 0",
            f"UPDATE {safe}_tier_pricing SET input_price_per_million = 1e7",
        )
        assert dm.usage("m")[0].cost == 1.0 + 10.0
        assert dm.get_model_billing("m").tier_pricing == history[0].tier_pricing
        assert dm.get_price_history("m") == history
    with DataManager(path) as dm:
        assert dm.get_price_history("m") == history
        dm.update_hourly_price("m", 2.0)
        assert dm.usage("m")[0].cost == 1.0 + 10.0
    with DataManager(path) as dm:  # its tables show what held then
        assert len(dm.get_price_history("m")) == 3
        assert dm.get_model_billing("m").hourly_price == 2.0


def first_set_by_another(path: str, dm: DataManager) -> str:
    """Then the history is one change, of number 0."""
    dm.add_model_requests("m", [])
    safe = dm.get_safe_model_name("m")
    edit(path, f"INSERT INTO {safe}_tier_pricing VALUES (1, 0, 0, 1e6, 0, 0, 0)")
    dm.update_hourly_price("m", 0.5)
    assert len(dm.get_price_history("m")) == 1
    return safe


def test_another_program_sets_the_first_price_and_the_next(path: str) -> None:
    with DataManager(path) as dm:
        safe = first_set_by_another(path, dm)
        use(dm, OLD)
        edit(path, f"UPDATE {safe}_tier_pricing SET input_price_per_million = 1e7")
        history = dm.get_price_history("m")
        assert len(history) == 2
        assert dm.get_price_history("m") == history
        use(dm, FUTURE)
        assert dm.usage("m")[0].cost == 1.0 + 10.0
        edit(path, f"DROP TABLE {safe}_tier_pricing")
    with DataManager(path) as dm:
        use(dm, OLD)  # makes the table again
        assert dm.get_model_billing("m").tier_pricing == history[1].tier_pricing
        assert dm.get_price_history("m") == history


def test_check_reads_the_change_of_number_0(path: str) -> None:
    with DataManager(path) as dm:
        safe = first_set_by_another(path, dm)
        edit(path, "UPDATE datamanager_price_changes SET hourly_price = 1e27")
        edit(path, f"UPDATE {safe}_billing SET hourly_price = 1e27")
        tables = [finding.table for finding in dm.check()]
        assert tables == [f"{safe}_billing", "datamanager_price_changes"]


def test_a_row_of_prices_that_got_lost_is_no_price(path: str) -> None:
    """By tiers and 0 per hour are what stands for it, and nobody has set them."""
    with DataManager(path) as dm:
        dm.set_pricing("m", tiers=[LOW], hourly_price=5.0, use_tier_pricing=False)
        use(dm, FUTURE)
        edit(path, f"DELETE FROM {dm.get_safe_model_name('m')}_billing")
        assert dm.get_model_billing("m") == datamanager.ModelBilling(False, 5.0, [LOW])
        dm.set_pricing("m", tiers=[HIGH])
        assert dm.get_model_billing("m") == datamanager.ModelBilling(False, 5.0, [HIGH])
        assert [tariff.hourly_price for tariff in dm.get_price_history("m")] == [5.0, 5.0]


def test_another_program_sets_one_price_while_the_tables_are_behind(path: str) -> None:
    """Only that one is its own: what came into force meanwhile goes on to hold."""
    with DataManager(path) as dm:
        dm.set_pricing("m", tiers=[LOW], hourly_price=1.0)
        use(dm, OLD)
        dm.set_pricing("m", tiers=[HIGH], effective_from=FUTURE)
        # The same file as it will be found after that moment.
        edit(
            path,
            f"UPDATE datamanager_price_changes SET changed_at={OLD}",
            f"UPDATE datamanager_price_changes SET effective_from={PAST} WHERE effective_from > 0",
            f"UPDATE {dm.get_safe_model_name('m')}_billing SET hourly_price = 7.0",
        )
        now = datamanager.ModelBilling(True, 7.0, [HIGH])
        assert dm.get_model_billing("m") == now
        history = dm.get_price_history("m")
        assert [t.tier_pricing for t in history] == [[LOW], [HIGH], [HIGH]]
    with DataManager(path) as dm:
        assert dm.get_price_history("m") == history
        assert dm.get_model_billing("m") == now


@pytest.mark.parametrize("run_goes_on", [False, True])
def test_a_change_beside_tiers_that_overlap(path: str, run_goes_on: bool) -> None:
    """It would store what nobody can be billed by: only one that puts them right is taken."""
    with DataManager(path) as dm:
        dm.set_pricing("m", tiers=[LOW])
        use(dm, FUTURE)
        if run_goes_on:
            dm.add_model_runtime_start("m", OLD)
        safe = dm.get_safe_model_name("m")
        edit(path, f"INSERT INTO {safe}_tier_pricing VALUES (2, 5, 10, 1, 1, 0, 0)")
        for date in (None, PAST, FUTURE):
            with pytest.raises(datamanager.CorruptDataError, match="overlap tier"):
                dm.set_billing_strategy("m", "volume", effective_from=date)
        with contextlib.closing(sqlite3.connect(path)) as db:
            rows = db.execute("SELECT count(*) FROM datamanager_price_changes").fetchone()
            assert rows == (1,)
        dm.delete_tier_pricing("m", 2)
        assert dm.get_model_billing("m").tier_pricing == [LOW]
        assert dm.usage("m")[0].requests == 1
        edit(path, f"INSERT INTO {safe}_tier_pricing VALUES (2, 5, 10, 1, 1, 0, 0)")
        dm.set_pricing("m", tiers=[LOW, HIGH])
        assert dm.get_model_billing("m").tier_pricing == [LOW, HIGH]
        assert [f for f in dm.check() if f.severity == "error"] == []


def test_tiers_that_overlap_stop_no_question_about_another_time(path: str) -> None:
    with DataManager(path) as dm:
        dm.set_pricing("m", tiers=[TierPricing(1, 0, 0, 1e6, 0, False, 0)])
        use(dm, OLD)
        safe = dm.get_safe_model_name("m")
        edit(path, f"INSERT INTO {safe}_tier_pricing VALUES (2, 5, 10, 1, 1, 0, 0)")
        assert dm.usage("m", start=OLD, end=OLD + 1)[0].cost == 1.0
        assert dm.invoice("m", start=OLD, end=OLD + 1).total == 1.0
        for end in (None, FUTURE):
            with pytest.raises(datamanager.CorruptDataError, match="overlaps tier"):
                dm.usage("m", start=OLD, end=end)


def test_what_changes_nothing_is_no_change(path: str) -> None:
    """A host that sets its prices whenever it starts does not come near the limit."""
    with DataManager(path) as dm:
        dm.set_pricing("m", hourly_price=0.0)  # the first is one, whatever it says
        use(dm, FUTURE)
        dm.set_pricing("m", tiers=[LOW, HIGH], hourly_price=1.0, strategy="volume")
        history = dm.get_price_history("m")
        assert len(history) == 2
        for _ in range(3):
            dm.set_pricing("m", tiers=[HIGH, LOW], hourly_price=1.0, use_tier_pricing=True)
            dm.set_billing_strategy("m", "volume")
            dm.set_tier_pricing("m", LOW)
            dm.update_tier_pricing("m", HIGH)
        with pytest.raises(datamanager.TierExistsError):
            dm.add_tier_pricing("m", LOW)
        assert dm.get_price_history("m") == history
        edit(path, f"UPDATE {dm.get_safe_model_name('m')}_billing SET hourly_price = 7.0")
        dm.set_pricing("m", hourly_price=1.0)  # which is one, where another program's is seen
        assert dm.get_model_billing("m").hourly_price == 1.0
        dm.set_pricing("m", tiers=[LOW])
        assert dm.get_model_billing("m").tier_pricing == [LOW]


@pytest.mark.parametrize("kind", ["billing", "tier_pricing"])
def test_a_table_of_prices_that_got_lost_is_no_price(path: str, kind: str) -> None:
    """The next write makes it again, and it shows what holds."""
    with DataManager(path) as dm:
        dm.set_pricing("m", tiers=[LOW, HIGH], hourly_price=1.0, use_tier_pricing=False)
        safe = dm.get_safe_model_name("m")
    edit(path, f"DROP TABLE {safe}_{kind}")
    with DataManager(path) as dm:
        use(dm, OLD)
        assert dm.get_price_history("m") == [Tariff(None, False, 1.0, "graduated", [LOW, HIGH])]


def test_a_price_comes_into_force(path: str) -> None:
    """Nothing is written at that moment: what holds is told from the history."""
    with DataManager(path) as dm:
        dm.update_hourly_price("m", 1.0)
        use(dm, OLD)
        dm.update_hourly_price("m", 2.0, effective_from=FUTURE)
        assert dm.get_model_billing("m").hourly_price == 1.0
        # The same file as it will be found after that moment.
        edit(
            path,
            f"UPDATE datamanager_price_changes SET changed_at={OLD}",
            f"UPDATE datamanager_price_changes SET effective_from={PAST} WHERE effective_from > 0",
        )
        assert dm.get_model_billing("m").hourly_price == 2.0


def test_batch(dm: DataManager) -> None:
    with dm.batch():
        dm.set_pricing("m", tiers=[LOW], strategy="volume")
        dm.add_tier_pricing("m", HIGH)
    with pytest.raises(KeyError), dm.batch():
        dm.set_pricing("m", tiers=[])
        raise KeyError
    assert dm.get_price_history("m") == [Tariff(None, True, 0.0, "volume", [LOW, HIGH])]


def test_each_call_takes_a_date(dm: DataManager) -> None:
    """What each sets holds from its moment, and the rest goes on as it was."""
    dm.set_tier_pricing("m", LOW, effective_from=100)
    dm.add_tier_pricing("m", HIGH, effective_from=200)
    dearer = LOW.__replace__(input_price_per_million=3.0)
    dm.update_tier_pricing("m", dearer, effective_from=300)
    dm.update_billing_method("m", False, effective_from=400)
    dm.update_hourly_price("m", 0.5, effective_from=500)
    dm.set_billing_strategy("m", "cumulative", effective_from=600)
    dm.delete_tier_pricing("m", 2, effective_from=700)
    assert dm.get_price_history("m") == [
        Tariff(None, True, 0.0, "graduated", []),
        Tariff(100.0, True, 0.0, "graduated", [LOW]),
        Tariff(200.0, True, 0.0, "graduated", [LOW, HIGH]),
        Tariff(300.0, True, 0.0, "graduated", [dearer, HIGH]),
        Tariff(400.0, False, 0.0, "graduated", [dearer, HIGH]),
        Tariff(500.0, False, 0.5, "graduated", [dearer, HIGH]),
        Tariff(600.0, False, 0.5, "cumulative", [dearer, HIGH]),
        Tariff(700.0, False, 0.5, "cumulative", [dearer]),
    ]


def test_importing_old_data_and_then_setting_prices(dm: DataManager) -> None:
    """The first price holds for all that was there before it, and for all that is added later."""
    use(dm, OLD)
    dm.set_pricing("m", tiers=[TierPricing(1, 0, 0, 1e6, 0, False, 0)])
    use(dm, OLD - 1)
    assert dm.usage("m")[0].cost == 2.0
    dm.set_pricing("m", tiers=[TierPricing(1, 0, 0, 3e6, 0, False, 0)])  # still setting up
    assert dm.usage("m")[0].cost == 6.0
    assert len(dm.get_price_history("m")) == 1


def test_a_new_price_does_not_rewrite_the_past(dm: DataManager) -> None:
    dm.set_pricing("m", tiers=[TierPricing(1, 0, 0, 1e6, 0, False, 0)])
    use(dm, time.time() + 1)  # so that it is later than the price, whatever the clock's steps
    use(dm, OLD)
    dm.set_pricing("m", tiers=[TierPricing(1, 0, 0, 3e6, 0, False, 0)], effective_from=FUTURE)
    use(dm, FUTURE)
    assert dm.usage("m")[0].cost == 1.0 + 1.0 + 3.0
    assert dm.usage("m", prices="current")[0].cost == 3.0
    assert dm.cost("m", 1, 0, at=FUTURE).cost == 3.0
    assert dm.cost("m", 1, 0).cost == dm.cost("m", 1, 0, at=FUTURE - 1).cost == 1.0


def test_prices_go_with_the_model(dm: DataManager) -> None:
    """A model of the same name that comes later begins without any."""
    dm.set_pricing("m", tiers=[LOW], strategy="volume", effective_from=PAST)
    dm.delete_model_tables("m")
    use(dm, FUTURE)
    assert dm.usage("m")[0].cost == 0.0
    dm.set_pricing("m", hourly_price=1.0)
    assert dm.get_price_history("m") == [Tariff(None, True, 1.0, "graduated", [])]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs tiers, hourly_price"),
        ({"tiers": 5}, "tiers must be an iterable of tiers, not 5"),
        ({"tiers": [LOW, LOW]}, "tier 1 exists already"),
        ({"tiers": [LOW, [2, 5, 0, 1, 1, 0, 0]]}, "would overlap tier 1"),
        ({"tiers": [[1, 0, 9, -1, 1, 0, 0]]}, "input_price_per_million must be a finite price"),
        ({"hourly_price": float("nan")}, "hourly_price must be a finite price"),
        ({"hourly_price": 1e27}, "hourly_price must be a price from 0 to 1e26, not 1e"),
        ({"tiers": [[1, 0, 9, 1, 2e26, 0, 0]]}, "output_price_per_million .* 1e26, not 2e"),
        ({"tiers": [[1, 0, 9, 1, 1, 1, 2e26]]}, "cache_hit_price_per_million .* 1e26, not 2e"),
        (
            {"strategy": "free"},
            "strategy must be 'graduated', .*, not 'free'",
        ),
        ({"strategy": "volume", "effective_from": -1}, "effective_from must be a finite number"),
        ({"strategy": "volume", "effective_from": "now"}, "effective_from must be seconds"),
        ({"strategy": "volume", "effective_from": float("inf")}, "effective_from must be"),
    ],
)
def test_refused(dm: DataManager, options: dict[str, Any], message: str) -> None:
    with pytest.raises((datamanager.InvalidDataError, datamanager.TierExistsError), match=message):
        dm.set_pricing("m", **options)
    assert dm.get_models() == []


def test_how_many_tiers_there_may_be(path: str) -> None:
    """So that a small file cannot ask for any time and memory. A price that changes keeps them."""
    tiers: list[Any] = [[i, i * 10, i * 10 + 10, 1.0, 1.0, False, None] for i in range(1001)]
    with DataManager(path) as dm:
        with pytest.raises(datamanager.InvalidDataError, match="at most 1000, not 1001"):
            dm.set_pricing("m", tiers=tiers)
        dm.set_pricing("m", tiers=tiers[:1000], effective_from=1.0)
        with pytest.raises(datamanager.InvalidDataError, match="at most 1000, not 1001"):
            dm.add_tier_pricing("m", tiers[1000], effective_from=2.0)
        safe = dm.get_safe_model_name("m")
        more = f"SELECT '{safe}',id+1,id+1,0,NULL,0.0,NULL,0 FROM n"
        edit(
            path,
            "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id+1 FROM n WHERE id<299)"
            f" INSERT INTO datamanager_price_changes {more}",
        )
        history = dm.get_price_history("m")
        assert len(history) == 301 and history[1].tier_pricing == history[300].tier_pricing
        with pytest.raises(datamanager.InvalidDataError, match="have 301000 tiers in all"):
            dm.set_pricing("m", hourly_price=1.0, effective_from=5000.0)
        dm.set_pricing("m", hourly_price=1.0, effective_from=300.0)
        edit(path, f"INSERT INTO datamanager_price_changes VALUES('{safe}',999,9,0,NULL,0,NULL,0)")
        with pytest.raises(datamanager.CorruptDataError, match="have 301000 tiers in all"):
            dm.usage("m")


def test_tariffs_that_share_their_tiers(dm: DataManager) -> None:
    """What is paid is of the tariff, also where another between them has other tiers, or none."""
    dm.set_pricing("m", tiers=[LOW], effective_from=10.0)
    dm.set_pricing("m", strategy="volume", effective_from=20.0)
    dm.set_pricing("m", tiers=[], effective_from=30.0)
    dm.set_pricing("m", hourly_price=1.0, effective_from=40.0)
    dm.set_pricing("m", tiers=[LOW, HIGH], effective_from=50.0)
    assert [t.tier_pricing for t in dm.get_price_history("m")] == [
        [], [LOW], [LOW], [], [], [LOW, HIGH]
    ]  # fmt: skip
    for at in (5.0, 15.0, 25.0, 35.0, 45.0, 55.0):
        dm.add_model_request("m", [at, 1_000_000, 0, 0, 1_000_000])
    invoice = dm.invoice("m", start=0.0, end=100.0, tz="UTC")
    assert invoice.total == dm.usage("m", start=0.0, end=100.0, tz="UTC")[0].cost > 0
