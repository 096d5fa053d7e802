"""Rows for COPY: exact times, no zero characters, commitments that bind unit and input."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import example, given
from hypothesis import strategies as st

from pointsman.streams.store import copyrow, rows
from tests.support.outcomes import outcome

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


FIRST, LAST = datetime(1, 1, 3), datetime(9999, 12, 30)  # noqa: DTZ001 - hypothesis adds the zone


@given(st.datetimes(FIRST, LAST, timezones=ZONES))
def test_times_are_exact_to_the_microsecond_in_any_zone(at: datetime) -> None:
    assert EPOCH + timedelta(microseconds=copyrow.micros(at)) == at


@given(st.datetimes(timezones=st.none() | ZONES))
@example(datetime.min.replace(tzinfo=timezone(timedelta(hours=14))))
@example(datetime.max.replace(tzinfo=timezone(timedelta(hours=-14))))
@example(datetime.min.replace(tzinfo=UTC))
@example(datetime.max.replace(tzinfo=UTC))
def test_any_time_becomes_one_that_can_be_read_again_in_any_zone(at: datetime) -> None:
    stored = EPOCH + timedelta(microseconds=copyrow.micros(at))
    for hours in (-14, 14):
        assert stored.astimezone(timezone(timedelta(hours=hours))) == stored


def test_a_time_without_zone_is_taken_for_utc() -> None:
    assert copyrow.micros(datetime(2000, 1, 1, 0, 0, 1)) == 1_000_000  # noqa: DTZ001 - that is the point


@given(st.text())
def test_texts_keep_all_but_zero_characters(text: str) -> None:
    cleaned = copyrow.clean(text)
    assert "\0" not in cleaned
    assert len(cleaned) == len(text)
    assert cleaned == text or "\0" in text


@given(st.integers(0, 2**64 - 1))
def test_a_hash_is_a_signed_number_of_its_own(number: int) -> None:
    signed = rows.hash_number(f"{number:016x}")
    assert -(2**63) <= signed < 2**63
    assert signed % 2**64 == number


@given(
    st.tuples(st.none() | st.text(min_size=1), st.binary()),
    st.tuples(st.none() | st.text(min_size=1), st.binary()),
)
def test_only_the_same_unit_and_input_have_the_same_commitment(
    one: tuple[str | None, bytes], other: tuple[str | None, bytes]
) -> None:
    salt = bytes(rows.SALT_BYTES)
    same = (one[0] and copyrow.clean(one[0]), one[1]) == (other[0] and copyrow.clean(other[0]), other[1])
    assert (rows.commitment(salt, *one) == rows.commitment(salt, *other)) is same


def test_salts_are_never_the_same() -> None:
    drawn = rows.salts(1000)
    assert len(set(drawn)) == 1000
    assert {len(salt) for salt in drawn} == {rows.SALT_BYTES}


def test_what_is_kept_packed_is_not_mixed_up_and_stays_bounded() -> None:
    packer = rows.Packer()
    given_ = [(outcome(0, prediction=f"p{i}"), None) for i in range(rows._KEPT_MAX + 10)]
    packed, _ = packer.decisions(given_, {"decision-requests": 1})
    assert len(packer._contexts) <= rows._KEPT_MAX
    assert all(copyrow.text(one.prediction) in row for (one, _), row in zip(given_, packed, strict=True))
