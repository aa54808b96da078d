import pytest

from dynawatt.adapters.calibration.clock_sweeps import read_clock_sweeps
from dynawatt.errors import InvalidInputError

LOCKED = """mem_mhz,sm_mhz,narr_tps,code_tps,power_w,tps_per_w
405,180,1,1,10,1
7001,1000,20,21,110,1
7001,2000,40,41,210,1
7001,3000,50,51,330,1
14001,3000,80,81,430,1
14001,1000,22,23,120,1
14001,2000,44,45,220,1
"""
LIMITED = """cap_w,prefill_tps,power_w,sm_mhz,tps_per_w
190,1000,190,700,5
250,2000,250,1400,8
330,2600,330,1800,8
390,2700,340,1800,8
"""
SUMMARY = """cap         req   tokens    agg_tps    tps_per    pwr_W   temp_C      MHz
------ -------- -------- ---------- ---------- -------- -------- --------
600W       2048   409600     1351.5      42.23    573.0     74.6     2696
450W       2080   416000     1382.1      43.19    447.7     69.3     2104
300W       1568   313600     1033.5      32.30    298.7     57.2     1144
"""


@pytest.fixture
def directory(tmp_path):
    club, workstation = tmp_path / "club3090-clock-powercap", tmp_path / "rtxpro6000-powercap" / "dense"
    club.mkdir()
    workstation.mkdir(parents=True)
    (club / "freq-cap-5090-gemma4.csv").write_text(LOCKED)
    (club / "power-cap-3090-prefill.csv").write_text(LIMITED)
    (club / "power-cap-4090-qwen36.csv").write_text("cap_w,narr_tps,code_tps,power_w,tps_per_w\n230,36,36,229,1\n")
    (workstation / "summary.txt").write_text(SUMMARY)
    return tmp_path


def test_every_sweep_with_a_clock_is_read(directory):
    sweeps = {sweep.name: sweep for sweep in read_clock_sweeps(directory)}
    assert list(sweeps) == ["rtx3090-prefill", "rtx5090-memory-14001", "rtx5090-memory-7001", "rtxpro6000-dense"]
    locked = sweeps["rtx5090-memory-14001"]
    assert (list(locked.clock_mhz), list(locked.power_w)) == ([1000, 2000, 3000], [120, 220, 430])
    assert list(locked.tokens_per_s) == [22, 44, 80]
    assert list(sweeps["rtxpro6000-dense"].clock_mhz) == [1144, 2104, 2696]
    assert list(sweeps["rtxpro6000-dense"].tokens_per_s) == [1033.5, 1382.1, 1351.5]


def test_limits_that_end_at_the_same_clock_are_averaged(directory):
    [sweep] = [sweep for sweep in read_clock_sweeps(directory) if sweep.name == "rtx3090-prefill"]
    assert list(sweep.clock_mhz) == [700, 1400, 1800]
    assert list(sweep.power_w) == [190, 250, 335]
    assert list(sweep.tokens_per_s) == [1000, 2000, 2650]


def test_nothing_there(tmp_path):
    assert read_clock_sweeps(tmp_path) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("110,1", "nan,1", "power_w: 'nan' must be a positive number"),
        ("7001,2000", "7001,x", "sm_mhz: 'x' must be a positive number"),
        ("sm_mhz", "clock", "sm_mhz: None must be a positive number"),
        ("7001,3000,50,51,330,1\n", "", "clock sweep rtx5090-memory-7001: needs three or more clocks"),
    ],
)
def test_malformed(directory, old, new, problem):
    path = directory / "club3090-clock-powercap" / "freq-cap-5090-gemma4.csv"
    path.write_text(LOCKED.replace(old, new))
    with pytest.raises(InvalidInputError, match=problem):
        read_clock_sweeps(directory)


def test_a_summary_without_its_header(directory):
    path = directory / "rtxpro6000-powercap" / "dense" / "summary.txt"
    path.write_text(SUMMARY.replace("pwr_W", "power"))
    with pytest.raises(InvalidInputError, match=r"summary.txt: first line must be cap req .* pwr_W"):
        read_clock_sweeps(directory)
