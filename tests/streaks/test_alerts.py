import gzip
import io
import os
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from fuzzing.alert_packets import (
    KINDS,
    avro_bytes,
    bytes_table,
    fits_stamp,
    flat_table,
    list_table,
    make_packet,
    parquet_bytes,
    struct_table,
    tar_bytes,
)

from ztf_sg import Triplets, load_alerts
from ztf_sg.streaks import AlertError, triplets_of, write_alerts
from ztf_sg.streaks.no_data import HUGE
from ztf_sg.streaks.stamps import IMAGES

N = 5


@pytest.fixture(scope="module")
def packets():
    rng = np.random.default_rng(0)
    return [make_packet(rng, number) for number in range(N)]


@pytest.fixture(scope="module")
def stamps(packets):
    """Return the pixels of the packets, (n, 3, 63, 63)."""
    return np.stack([each for _, each in packets])


@pytest.fixture(scope="module")
def dicts(packets):
    return [packet for packet, _ in packets]


def names(dicts):
    return [f"{packet['objectId']}_{packet['candid']}" for packet in dicts]


def check(loaded, stamps, rows=slice(None)):
    """See that stamps were loaded bit by bit."""
    assert isinstance(loaded, Triplets)
    for number, kind in enumerate(IMAGES):
        np.testing.assert_array_equal(getattr(loaded, kind), stamps[rows, number])


def bad_stamp(packet, content, kind="Difference"):
    return packet | {f"cutout{kind}": {"fileName": "bad", "stampData": content}}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2", "xz"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_avro_packets_are_read_bit_by_bit(tmp_path, dicts, stamps, codec, pack):
    loaded = load_alerts(write(tmp_path / "night", pack(avro_bytes(dicts, codec))))
    check(loaded, stamps)
    assert loaded.table["name"].tolist() == names(dicts)
    assert len(loaded.skipped) == 0


@pytest.mark.parametrize("value, wanted", [("-1", "f"), ("0", "f"), ("False", "f"), ("1", "t"), ("x", None)])
def test_isdiffpos_is_t_or_f_however_it_is_written(tmp_path, dicts, value, wanted):
    packet = dicts[0] | {"candidate": dicts[0]["candidate"] | {"isdiffpos": value}}
    table = load_alerts(write(tmp_path / "a.avro", avro_bytes([packet, *dicts[1:]]))).table
    assert table["isdiffpos"].replace({np.nan: None})[0] == wanted


def test_metadata_of_the_candidate_become_columns(tmp_path, dicts):
    packet = dicts[0] | {"candidate": dicts[0]["candidate"] | {"isdiffpos": "1", "rb": None}}
    table = load_alerts(write(tmp_path / "a.avro", avro_bytes([packet, *dicts[1:]]))).table
    for key in ("jd", "ra", "dec", "magpsf", "sigmapsf", "magzpsci", "fwhm"):
        assert table[key].tolist() == [each["candidate"][key] for each in dicts], key
    assert table["fid"].dtype == table["candid"].dtype == table["night"].dtype == np.int64
    assert table["candid"].tolist() == [each["candid"] for each in dicts]
    assert table["night"].tolist() == [int(each["candidate"]["jd"]) for each in dicts]
    assert table["isdiffpos"].tolist() == ["t"] * N
    assert table["rb"].isna().tolist() == [True] + [False] * (N - 1)
    assert "prv_candidates" not in table and table["ssnamenr"].isna().all()


@pytest.mark.parametrize("layout", ["struct", "record", "record.", "flat", "list", "bytes"])
def test_tables_of_brokers_are_read_bit_by_bit(tmp_path, dicts, stamps, layout):
    makers = {"flat": flat_table, "list": list_table, "bytes": bytes_table}
    table = makers[layout](dicts, stamps) if layout in makers else struct_table(dicts)
    if layout.startswith("record"):
        table = table.flatten()  # columns such as candidate.jd and cutoutScience.stampData
    if layout == "record":
        table = table.rename_columns([name.replace(".", "_") for name in table.column_names])
    loaded = load_alerts(write(tmp_path / "any", parquet_bytes(table)))
    check(loaded, stamps)
    if layout == "list":
        assert loaded.table["name"].tolist() == [f"alert_{packet['candid']}" for packet in dicts]
        assert loaded.labels.tolist() == [1] * N
    else:
        assert loaded.table["name"].tolist() == names(dicts)
        assert loaded.labels.tolist() == [-1] * N
    if layout != "bytes":
        assert loaded.table["jd"].tolist() == [packet["candidate"]["jd"] for packet in dicts]


def test_labels_are_those_of_the_contract(tmp_path, dicts, stamps):
    texts = ["star", "Galaxy", "artifact", "comet", "asteroid", "satellite", "satellite_or_unknown", None]
    table = list_table(dicts[:1] * 8, [stamps[0]] * 8).set_column(1, "label", [texts])
    table = table.set_column(0, "name", [list("abcdefgh")])
    loaded = load_alerts(write(tmp_path / "a.parquet", parquet_bytes(table)))
    assert loaded.labels.tolist() == [0, 0, 0, 0, 1, 2, -1, -1]
    assert loaded.table["name"].tolist() == list("abcdefgh")


def test_folders_and_tarballs_are_read_in_natural_order(tmp_path, dicts, stamps):
    folder = tmp_path / "alerts"
    write(folder / "10.avro", avro_bytes(dicts[2:3]))
    write(folder / "2.avro", avro_bytes(dicts[1:2]))
    write(folder / "1" / "x.parquet", parquet_bytes(struct_table(dicts[:1])))
    write(folder / "night.tar.gz", tar_bytes({"3.avro": avro_bytes(dicts[3:4])}, "w:gz"))
    write(folder / "other.tar", tar_bytes({"p.gz": gzip.compress(parquet_bytes(struct_table(dicts[4:])))}))
    write(folder / ".hidden.avro", b"no Avro")
    write(folder / "README.md", b"notes")
    check(load_alerts(folder), stamps)


def test_each_folder_is_read_once_links_to_it_or_not(tmp_path, dicts, stamps):
    nights = tmp_path / "nights"
    write(tmp_path / "elsewhere" / "a.avro", avro_bytes(dicts[:3]))
    write(nights / "b" / "b.avro", avro_bytes(dicts[3:]))
    for name, target in (("1", tmp_path / "elsewhere"), ("2", nights / "b"), ("3", nights), ("4", tmp_path)):
        (nights / name).symlink_to(target)
    loaded = load_alerts(nights)
    check(loaded, stamps)
    assert loaded.skipped.empty


def test_a_folder_that_cannot_be_read_is_named(tmp_path, dicts, monkeypatch):
    write(tmp_path / "a.avro", avro_bytes(dicts))
    write(tmp_path / "locked" / "b.avro", avro_bytes(dicts))
    scan = os.scandir

    def guarded(folder):
        if str(folder).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", guarded)
    loaded = load_alerts(tmp_path, "skip")
    assert len(loaded) == N
    assert loaded.skipped["reason"].tolist() == [f"{tmp_path / 'locked'}: cannot be read (Permission denied)"]


def test_files_that_hold_no_alerts_are_passed_over_aloud(tmp_path, dicts):
    write(tmp_path / "a.avro", avro_bytes(dicts))
    write(tmp_path / "arrays.npz", b"PK34")
    with pytest.warns(UserWarning, match="passed over 1 npz"):
        assert len(load_alerts(tmp_path)) == N


@pytest.mark.parametrize("content", [None, b"", b"notes"])
def test_a_path_without_alerts_is_not_found(tmp_path, content):
    if content is not None:
        write(tmp_path / "stuff" / "notes.txt", content)
    with pytest.raises(FileNotFoundError, match="stuff.*name a file or folder of Avro packets"):
        load_alerts(tmp_path / "stuff")


def fits_file(*images):
    """Return a FITS file of images given as (EXTNAME, pixels)."""
    content = io.BytesIO()
    hdus = [fits.PrimaryHDU(), *(fits.ImageHDU(pixels, name=name) for name, pixels in images)]
    hdus[0].header["OBSJD"] = 2459000.7
    fits.HDUList(hdus).writeto(content)
    return content.getvalue()


@pytest.mark.parametrize(
    "parts",
    [
        ("_pid2_targ_sci.fits.gz", "_ref.fits.gz", "_pid2_targ_scimref.fits.gz"),
        ("_pid2_targ_sci.fits.gz", "_ref.fits.gz", "_pid2_targ_refmsci.fits.gz"),
        ("_cutoutScience.fits", "_cutoutTemplate.fits", "_cutoutDifference.fits"),
        (".science.fits", ".template.fits", ".difference.fits"),
    ],
)
@pytest.mark.parametrize("archive", [False, True])
def test_three_files_of_fits_make_one_alert(tmp_path, stamps, parts, archive):
    files = {
        f"candid{row}{part}": fits_stamp(stamps[row, number])
        if part.endswith("gz")
        else gzip.decompress(fits_stamp(stamps[row, number]))
        for row in range(2)
        for number, part in enumerate(parts)
    }
    if archive:
        write(tmp_path / "stamps.tar", tar_bytes(files))
    else:
        for name, content in files.items():
            write(tmp_path / name, content)
    loaded = load_alerts(tmp_path)
    check(loaded, stamps, slice(2))
    assert loaded.table["name"].tolist() == ["candid0", "candid1"]


def test_one_file_of_fits_may_hold_an_alert(tmp_path, stamps):
    names = ("science", "TEMPLATE", "cutoutDifference")
    write(tmp_path / "a.fits", fits_file(*zip(names, stamps[0], strict=True)))
    loaded = load_alerts(tmp_path)
    check(loaded, stamps, slice(1))


def test_values_that_mark_pixels_without_data_become_nan(dicts, stamps):
    marked = stamps[0, 1].copy()
    marked[:, :20] = np.finfo(np.float32).min
    loaded = triplets_of([("row 0", bad_stamp(dicts[0], fits_stamp(marked), "Template"), None)])
    assert np.isnan(loaded.template[0, :, :20]).all()
    np.testing.assert_array_equal(loaded.template[0, :, 20:], stamps[0, 1][:, 20:])


def test_a_set_of_stamps_of_hardly_any_pixels_is_named(dicts):
    tiny = [("row 0", {"difference": np.ones((2, 2), np.float32)}, None)]
    with pytest.raises(AlertError, match="row 0.* at least 3 px"):
        triplets_of(tiny)
    assert len(triplets_of(tiny, "skip")) == 0


def test_files_called_after_their_images_are_those_of_their_folder(tmp_path, stamps, monkeypatch):
    for row in range(2):
        for kind, pixels in zip(IMAGES, stamps[row], strict=True):
            write(tmp_path / f"ZTF{row}" / f"{kind}.fits.gz", fits_stamp(pixels))
    loaded = load_alerts(tmp_path)
    check(loaded, stamps, slice(2))
    assert loaded.table["name"].tolist() == ["ZTF0", "ZTF1"]
    monkeypatch.chdir(tmp_path / "ZTF1")
    assert load_alerts(".").table["name"].tolist() == ["ZTF1"]


def test_images_of_alerce_are_told_by_the_type_of_stamp(tmp_path, stamps):
    hdus = fits.HDUList([fits.PrimaryHDU(stamps[0, 0]), *map(fits.ImageHDU, stamps[0, 1:])])
    for hdu, kind in zip(hdus, IMAGES, strict=True):
        hdu.header["HIERARCH STAMP_TYPE"] = kind
    hdus.writeto(tmp_path / "stamps.fits")
    check(load_alerts(tmp_path), stamps, slice(1))


def test_a_lone_image_is_a_difference_image(tmp_path, stamps):
    path = write(tmp_path / "thing.fits", fits_stamp(stamps[0, 2]))
    loaded = load_alerts(path)
    np.testing.assert_array_equal(loaded.difference, stamps[:1, 2])
    assert np.isnan(loaded.science).all() and loaded.table["name"].tolist() == ["thing"]


def test_no_warning_of_the_simple_card_but_others(tmp_path, stamps):
    content = gzip.decompress(fits_stamp(stamps[0, 2], "SIMPLE  = T"))
    path = write(tmp_path / "thing.fits", content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_alerts(path)


def test_missing_stamps_have_no_data(tmp_path, dicts, stamps):
    packet = dicts[0] | {"cutoutScience": None, "cutoutTemplate": None}
    loaded = load_alerts(write(tmp_path / "a.avro", avro_bytes([packet])))
    assert np.isnan(loaded.science).all() and np.isnan(loaded.template).all()
    np.testing.assert_array_equal(loaded.difference, stamps[:1, 2])


@pytest.mark.parametrize(
    "position, corner", [((10, 1000), (0, 1)), ((1000, 3075), (0, 0)), ((None, 5), (1, 0))]
)
def test_stamps_cut_by_the_border_are_completed_where_the_image_ends(
    tmp_path, dicts, stamps, position, corner
):
    x, y = position
    small = stamps[0, 2, : 63 if y == 1000 else 40, : 63 if x != 10 else 41]
    packet = bad_stamp(dicts[0], fits_stamp(small))
    packet |= {"candidate": packet["candidate"] | {"xpos": x, "ypos": y}}
    loaded = load_alerts(write(tmp_path / "a.avro", avro_bytes([packet, *dicts[1:]])))
    top, left = (63 - small.shape[0]) * corner[0], (63 - small.shape[1]) * corner[1]
    window = loaded.difference[0, top : top + small.shape[0], left : left + small.shape[1]]
    np.testing.assert_array_equal(window, small)
    assert np.isfinite(loaded.difference[0]).sum() == np.isfinite(small).sum()


BAD_STAMPS = {
    "is empty": b"",
    "neither FITS nor": b"a stamp",
    "no square": b"1234" * 3,
    "cut short": fits_stamp(np.random.default_rng(1).random((63, 63)))[:-200],
    "gzip cannot unpack": fits_stamp(np.zeros((63, 63)))[:10] + b"\xff" * 50,
    "unpacks to more than 16 MB": gzip.compress(b"SIMPLE" + bytes(2**25)),
    "has a difference stamp of 21 x 63 px": fits_stamp(np.ones((21, 63))),
    "is no stamp: 600 x 63 px": fits_stamp(np.ones((600, 63))),
    "no whole FITS": gzip.compress(b"SIMPLE  =                    T".ljust(2880)),
}


@pytest.mark.parametrize("reason", BAD_STAMPS)
@pytest.mark.parametrize("layout", ["avro", "parquet"])
def test_a_bad_stamp_is_named_and_the_others_are_kept(tmp_path, dicts, stamps, reason, layout):
    some = [dicts[0], bad_stamp(dicts[1], BAD_STAMPS[reason]), *dicts[2:]]
    content = avro_bytes(some) if layout == "avro" else parquet_bytes(struct_table(some))
    path = write(tmp_path / "some.alerts", content)
    loaded = load_alerts(path, on_error="skip")
    check(loaded, stamps, [0, 2, 3, 4])
    assert len(loaded.skipped) == 1
    text = loaded.skipped["reason"][0]
    assert (
        reason in text
        and names(dicts)[1] in text
        and f"some.alerts, {'packet' if layout == 'avro' else 'row'} 1" in text
    )
    with pytest.raises(AlertError, match="some.alerts.*on_error='skip'"):
        load_alerts(path)


def test_an_alert_without_any_stamp_is_named(tmp_path, dicts):
    packet = dicts[0] | dict.fromkeys((f"cutout{kind}" for kind in KINDS), None)
    with pytest.raises(AlertError, match=f"{names(dicts)[0]}.*no stamp with a pixel"):
        load_alerts(write(tmp_path / "a.avro", avro_bytes([packet])))


def test_the_error_counts_all_that_is_wrong(tmp_path, dicts):
    some = [bad_stamp(packet, b"") for packet in dicts]
    with pytest.raises(AlertError, match=rf"{names(dicts)[0]}.*\({N} alerts or files in all\)"):
        load_alerts(write(tmp_path / "a.avro", avro_bytes(some)))


def test_what_comes_before_the_end_of_a_cut_file_is_kept(tmp_path, dicts, stamps):
    whole = avro_bytes(dicts, sync_interval=1)
    files = {
        "a.avro": (whole[: int(len(whole) * 0.7)], 3),
        "b.avro.gz": (gzip.compress(whole)[: int(len(whole) * 0.7)], 3),
        "c.tar": (
            tar_bytes({f"{n}.avro": avro_bytes([dicts[n]]) for n in range(N)})[: int(len(whole) * 0.7)],
            2,
        ),
    }
    for name, (content, least) in files.items():
        loaded = load_alerts(write(tmp_path / name, content), on_error="skip")
        assert least <= len(loaded) < N, name
        check(loaded, stamps, slice(len(loaded)))
        assert name in loaded.skipped["reason"][0] and "cut short" in loaded.skipped["reason"][0]


def test_a_damaged_block_of_avro_costs_no_other_one(tmp_path, dicts, stamps):
    content = avro_bytes(dicts, "deflate", sync_interval=1)
    start = content.index(content[-16:], len(content) // 3)  # a mark between blocks
    damaged = content[: start + 200] + b"\xff" * 50 + content[start + 250 :]
    loaded = load_alerts(write(tmp_path / "a.avro", damaged), on_error="skip")
    assert len(loaded) == N - 1 and len(loaded.skipped) == 1


def test_files_of_many_blocks_are_read(tmp_path):
    rng = np.random.default_rng(1)
    some = [make_packet(rng, number % 1000, (5, 5))[0] for number in range(1200)]
    assert len(load_alerts(write(tmp_path / "a.avro", avro_bytes(some, sync_interval=1)))) == 1200


def test_bombs_are_refused_without_being_unpacked(tmp_path, dicts):
    bomb = gzip.compress(bytes(2**27))
    write(tmp_path / "a.avro", avro_bytes([bad_stamp(dicts[0], bomb), dicts[1]]))
    write(tmp_path / "b.fits.gz", gzip.compress(b"SIMPLE" + bytes(2**27)))
    for _ in range(5):
        bomb = gzip.compress(bomb)
    write(tmp_path / "c.avro.gz", bomb)
    tracemalloc.start()
    loaded = load_alerts(tmp_path, on_error="skip")
    assert tracemalloc.get_traced_memory()[1] < 2**27 * 0.7
    tracemalloc.stop()
    assert len(loaded) == 1 and len(loaded.skipped) == 3


def test_a_copy_of_an_alert_is_kept_once_and_listed(tmp_path, dicts, stamps):
    write(tmp_path / "a.avro", avro_bytes(dicts))
    write(tmp_path / "b.parquet", parquet_bytes(struct_table(dicts[1:2])))
    loaded = load_alerts(tmp_path)
    check(loaded, stamps)
    assert loaded.skipped["name"].tolist() == names(dicts)[1:2]
    assert "copy of the alert in" in loaded.skipped["reason"][0]


def test_what_is_written_is_what_is_read(tmp_path, dicts, stamps):
    loaded = load_alerts(write(tmp_path / "a.avro", avro_bytes(dicts)))
    labelled = Triplets(*np.moveaxis(stamps[..., :-3], 1, 0), labels=[0, 1, 2, -1, 0], table=loaded.table)
    write_alerts(labelled, tmp_path / "b.parquet")
    again = load_alerts(tmp_path / "b.parquet")
    check(again, stamps[..., :-3])
    assert again.labels.tolist() == [0, 1, 2, -1, 0]
    pd.testing.assert_frame_equal(again.table.drop(columns="label"), loaded.table, check_dtype=False)


def test_a_table_that_would_hide_the_stamps_is_not_written(tmp_path, stamps):
    table = pd.DataFrame({"science": ["a paper"]})
    with pytest.raises(ValueError, match="columns of stamps are called science"):
        write_alerts(Triplets(difference=stamps[:1, 2], table=table), tmp_path / "alerts.parquet")
    assert not (tmp_path / "alerts.parquet").exists()


def test_stamps_without_metadata_are_written(tmp_path, stamps):
    write_alerts(Triplets(*np.moveaxis(stamps[..., :-3], 1, 0)), tmp_path / "a.parquet")
    check(load_alerts(tmp_path / "a.parquet"), stamps[..., :-3])


def test_numbers_without_their_last_digits_tell_no_copies(dicts, stamps):
    rounded = [packet | {"candid": 1.549473362115015e18} for packet in dicts]
    check(triplets_of([(f"row {row}", packet, None) for row, packet in enumerate(rounded)]), stamps)


def test_real_alerts_are_loaded_as_they_are():
    folder = os.environ.get("ZTF_SG_REAL_ALERTS")
    if not folder:
        pytest.skip("needs real alerts: set ZTF_SG_REAL_ALERTS to a folder with alerts.parquet")
    path = Path(folder) / "alerts.parquet"
    loaded, table = load_alerts(path), pq.read_table(path).to_pandas()
    stacks = np.stack([np.stack(table[kind].to_numpy()).reshape(-1, 63, 63) for kind in IMAGES], axis=1)
    check(loaded, np.where(np.abs(stacks) < HUGE, stacks, np.nan))
    pd.testing.assert_frame_equal(
        loaded.table[["name", "night", "jd", "fid", "fwhm"]],
        table[["name", "night", "jd", "fid", "fwhm"]],
        check_dtype=False,
    )
    labels = table["label"].map({"star": 0, "galaxy": 0, "artifact": 0, "asteroid": 1, "satellite": 2})
    assert loaded.labels.tolist() == labels.tolist()
    assert (table["night"] == np.floor(table["jd"])).all()
