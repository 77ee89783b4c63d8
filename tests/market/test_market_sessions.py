"""Trading days: clock changes, sessions across midnight, and an oracle that asks the local clock."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketdata.columns import ABSENT, NANOS
from mda.market.sessions import DAY_NS, EVERY_DAY, Session

HOUR_NS = 3_600 * NANOS
WORKDAYS = frozenset(range(1, 6))
CME = Session("America/Chicago", time(17), time(16), WORKDAYS)
ZONES = ["UTC", "America/Chicago", "Europe/London", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia"]
# Hours at which no zone changes its clocks.
HOURS = st.builds(time, st.integers(4, 22), st.sampled_from([0, 15, 30]))


def at(text: str) -> int:
    return int((datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(seconds=1)) * NANOS


def times(*texts: str) -> np.ndarray:
    return np.array([at(text) for text in texts], dtype=np.int64)


def local_day(session: Session, time_ns: int) -> date | None:
    """Return the trading day of a time as the clock on the wall tells it."""
    local = datetime.fromtimestamp(time_ns // NANOS, ZoneInfo(session.time_zone))
    day, clock = local.date(), local.time()
    if session.closes == time():
        found = day if clock >= session.opens else None
    elif session.opens < session.closes:
        found = day if session.opens <= clock < session.closes else None
    elif clock >= session.opens:
        found = day + timedelta(days=1)
    else:
        found = day if clock < session.closes else None
    return found if found and found.isoweekday() in session.weekdays else None


def test_a_session_round_the_clock_has_days_of_utc() -> None:
    days = Session().days(at("2024-07-01T12:00Z"), at("2024-07-03T00:00Z"))
    assert days.dates.astype(str).tolist() == ["2024-07-01", "2024-07-02"]
    assert days.starts.tolist() == times("2024-07-01T00:00Z", "2024-07-02T00:00Z").tolist()
    assert (days.ends - days.starts).tolist() == [DAY_NS, DAY_NS]


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("America/Chicago", "2024-03-09", 24),
        ("America/Chicago", "2024-03-10", 23),
        ("America/Chicago", "2024-11-03", 25),
        ("Europe/London", "2024-03-31", 23),
        ("Europe/London", "2024-10-27", 25),
        ("Europe/London", "2024-10-28", 24),
        ("Australia/Lord_Howe", "2024-04-07", 24.5),
    ],
)
def test_days_are_shorter_or_longer_where_clocks_change(zone: str, day: str, hours: float) -> None:
    noon = int(datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=ZoneInfo(zone)).timestamp()) * NANOS
    days = Session(zone).days(noon, noon + 1)
    assert days.dates.astype(str).tolist() == [day]
    assert (days.ends - days.starts).tolist() == [int(hours * HOUR_NS)]


def test_a_date_that_a_zone_left_out_is_no_day() -> None:
    days = Session("Pacific/Apia").days(at("2011-12-29T12:00Z"), at("2012-01-01T00:00Z"))
    assert days.dates.astype(str).tolist() == ["2011-12-29", "2011-12-31", "2012-01-01"]
    assert (days.starts[1:] == days.ends[:-1]).all()


def test_a_session_across_midnight_belongs_to_the_day_on_which_it_ends() -> None:
    days = CME.days(at("2024-07-05T12:00Z"), at("2024-07-09T12:00Z"))
    assert days.dates.astype(str).tolist() == ["2024-07-05", "2024-07-08", "2024-07-09"]
    expected = times("2024-07-04T22:00Z", "2024-07-07T22:00Z", "2024-07-08T22:00Z")  # Sunday begins Monday
    assert days.starts.tolist() == expected.tolist()
    assert (days.ends - days.starts).tolist() == [23 * HOUR_NS] * 3


def test_a_session_that_opens_when_it_closes_belongs_to_the_day_on_which_it_ends() -> None:
    (day,) = (
        Session("America/New_York", time(17), time(17)).days(at("2024-07-01T12:00Z"), at("2024-07-01T13:00Z")).dates
    )
    assert str(day) == "2024-07-01"


def test_closing_at_midnight_is_the_end_of_the_day() -> None:
    days = Session("UTC", time(17), time()).days(at("2024-07-01T00:00Z"), at("2024-07-02T00:00Z"))
    assert days.dates.astype(str).tolist() == ["2024-07-01"]
    assert (days.starts[0], days.ends[0]) == (at("2024-07-01T17:00Z"), at("2024-07-02T00:00Z"))


def test_days_do_not_overlap_where_an_opening_is_skipped() -> None:
    session = Session("America/Chicago", time(3), time(2, 30))
    days = session.days(at("2024-03-08T00:00Z"), at("2024-03-13T00:00Z"))
    assert (days.starts[1:] >= days.ends[:-1]).all()
    assert (days.starts < days.ends).all()


def test_times_within_a_session_are_told() -> None:
    days = CME.days(at("2024-07-05T00:00Z"), at("2024-07-10T00:00Z"))
    asked = times(
        "2024-07-05T20:59:59Z",  # Friday, the last second
        "2024-07-05T21:00Z",
        "2024-07-06T12:00Z",
        "2024-07-07T21:59:59Z",
        "2024-07-07T22:00Z",  # Sunday, the first instant of Monday
        "2024-07-08T21:30Z",  # the hour between
        "2024-07-08T22:00Z",
    )
    assert (days.numbers(asked) != ABSENT).tolist() == [True, False, False, False, True, False, True]
    assert (days.numbers(asked[::-1]) != ABSENT).tolist() == [True, False, True, False, False, False, True]
    assert (days.numbers(asked[4:5]) != ABSENT).tolist() == [True]
    assert (days.numbers(asked[:0]) != ABSENT).tolist() == []


def test_spans_that_touch_a_session_are_told() -> None:
    days = CME.days(at("2024-07-05T00:00Z"), at("2024-07-09T00:00Z"))
    starts = times("2024-07-05T20:00Z", "2024-07-05T21:00Z", "2024-07-07T21:00Z", "2024-07-07T21:00Z")
    ends = times("2024-07-05T21:00Z", "2024-07-07T22:00Z", "2024-07-07T22:00:00Z", "2024-07-07T22:00:01Z")
    assert days.overlap(starts, ends).tolist() == [True, False, False, True]


def test_there_are_no_days_where_none_are_asked_for() -> None:
    noon = at("2024-07-01T12:00Z")
    assert len(Session().days(noon, noon)) == 0
    weekend = CME.days(at("2024-07-06T00:00Z"), at("2024-07-07T00:00Z"))
    assert len(weekend) == 0
    assert weekend.numbers(np.array([noon])).tolist() == [ABSENT]
    days = Session().days(noon, noon + DAY_NS)
    assert list(days.between(noon, noon)) == []
    assert list(days.between(noon, noon + 1)) == [0]
    assert list(days.between(noon - 5 * DAY_NS, noon + 5 * DAY_NS)) == [0, 1]
    assert list(days.between(noon + 2 * DAY_NS, noon + 3 * DAY_NS)) == []
    assert days.ends_of(np.array([0])).tolist() == [at("2024-07-02T00:00Z")]


def test_the_ends_of_int64_are_no_error() -> None:
    least = np.iinfo(np.int64).min
    assert len(Session().days(least, least + 20 * DAY_NS)) > 0
    assert len(Session().days(ABSENT - 20 * DAY_NS, ABSENT)) > 0


@given(
    st.builds(
        Session,
        st.sampled_from(ZONES),
        HOURS | st.just(time()),
        HOURS | st.just(time()),
        st.sets(st.integers(1, 7), min_size=1).map(frozenset),
    ),
    st.integers(at("2010-01-01T00:00Z"), at("2030-01-01T00:00Z")),
    st.lists(st.integers(0, 10 * DAY_NS), min_size=1, max_size=30),
)
def test_days_are_those_of_the_clock_on_the_wall(session: Session, start_ns: int, offsets: list[int]) -> None:
    days = session.days(start_ns, start_ns + 10 * DAY_NS + 1)
    asked = np.array([start_ns + offset for offset in offsets], dtype=np.int64)
    numbers = days.numbers(asked).tolist()
    found = [None if number == ABSENT else days.dates[number].item() for number in numbers]
    assert found == [local_day(session, time_ns) for time_ns in asked.tolist()]
    assert days.overlap(asked, asked + 1).tolist() == (days.numbers(asked) != ABSENT).tolist()


@pytest.mark.parametrize(
    "zone", ["", "America", "America/Springfield", "../etc/passwd", "/etc/passwd", "UTC\0", "x" * 9999]
)
def test_an_unknown_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(ValueError, match=r"^time_zone: there is no .* Send an IANA name"):
        Session(zone)


@pytest.mark.parametrize("weekdays", [frozenset(), frozenset({0}), frozenset({7, 8})])
def test_weekdays_that_are_none_are_refused(weekdays: frozenset[int]) -> None:
    with pytest.raises(ValueError, match=r"^weekdays: .* Send some of 1 \(Monday\)"):
        Session(weekdays=weekdays)


@pytest.mark.parametrize("name", ["opens", "closes"])
def test_a_time_with_a_zone_of_its_own_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: .* has a time zone. Send a plain"):
        Session(**{name: time(9, tzinfo=UTC)})


def test_every_day_is_the_default() -> None:
    assert Session().weekdays == EVERY_DAY
