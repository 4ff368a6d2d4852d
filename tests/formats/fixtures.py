"""One small, format-true source for each format that reads text: what fuzzing and the sweep for secrets start from."""

from __future__ import annotations

from tests.formats.test_damage import SOURCES

HUAWEI = (
    "day,time,clusterName,funcName,userID,requestID,totalCost_cold_start,podAllocationCost,"
    "deployCodeCost,deployDependencyCost,schedulingCost,podID\n"
    "0,12.5,1,33,7,ab12,1.5,0.5,0.25,0,0.75,pool22-300-128-0000618412\n"
    "0,13.125,2,34,7,ab12,0.75,0.25,0.25,0.125,0.125,pool3-600-512-0000000001\n"
)
FIXTURES: dict[str, bytes] = {
    **{name: text.encode() for name, text in SOURCES.items() if name != "columns"},
    "huawei_cold_start": HUAWEI.encode(),
}
