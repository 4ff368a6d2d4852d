"""Small invented sources of every serverless format, true to their layouts.

``PATHS`` names the file of a source whose path says what it holds; the others may have any name.
"""

from __future__ import annotations

import json

_MINUTES = ",".join(str(m) for m in range(480, 490))
FIXTURES: dict[str, bytes] = {
    "huawei_cold_start": b"""\
day,time,clusterName,funcName,userID,requestID,totalCost_cold_start,podAllocationCost,deployCodeCost,deployDependencyCost,schedulingCost,podID
0,0.104,1,400,418,aaaa,1.5,0.25,0.125,0.000,1.125,pool22-300-128-0006319574
0,0.226,2,1531,418,aaaa,0.5,0.125,0.125,0.125,0.125,pool22-300-128-0005156468
""",
    "huawei_runtime": b"""\
funcID,cpu_request,runtime,triggerType-invocationType
400---418---pool22-300-128,100,Python3,workflow-S
1531---418---pool22-300-128,100,Node.js,APIG-S TIMER-A
""",
    "huawei_request": b"""\
time_worker,time_frontend,requestID,clusterName,funcName,podID,userID,totalCost_worker,workerCost,runtimeCost,totalCost_frontend,frontendCost,busCost,readBodyCost,writeRspCost,cpu_usage,memory_usage,requestBodySize
2592000.020,2592000.021,bbbb,3,400,pool22-300-128-0000177166,418,0.000931,0.000103,0.000829,0.002367,0.000531,0.000585,0.000025,0.000009,0.059806,34.238280,2.0
2592000.034,,cccc,3,34,pool22-300-128-0000014767,83,0.001416,0.000646,0.000770,,,,,,0.000000,26.699219,
""",
    "huawei_2025_requests": b"""\
day,time,400---418---pool22-300-128,343---1077---pool22-300-128
0,0,1.0,
0,60,NaN,3.0
""",
    "huawei_2025_metrics": b"""\
day,time,400---418---pool22-300-128,343---1077---pool22-300-128
0,0,0.25,
0,60,,1.5
""",
    "huawei_2023_requests": b"day,time,0,4,199\n0,0,,6,0\n0,1,,7,2\n",
    "huawei_2023_metrics": b"day,time,0,4,199\n0,0,,0.45,1.95\n0,60,,0.45,NaN\n",
    "azure_functions_2019": (
        f"HashOwner,HashApp,HashFunction,Trigger,{_MINUTES}\n"
        "o1,a1,f1,timer,0,1,0,0,0,0,1,0,0,0\no1,a1,f2,http,9,0,0,0,0,0,0,0,0,3\n"
    ).encode(),
    "azure_functions_2019_durations": b"""\
HashOwner,HashApp,HashFunction,Average,Count,Minimum,Maximum,percentile_Average_0,percentile_Average_1,percentile_Average_25,percentile_Average_50,percentile_Average_75,percentile_Average_99,percentile_Average_100
o1,a1,f1,71,288,0.0,1458.0,0,0,0,0,1,1265,1458
o1,a1,f2,327,288.0,,,62,78,156,218,281,2107,3311
""",
    "azure_functions_2019_memory": b"""\
HashOwner,HashApp,SampleCount,AverageAllocatedMb,AverageAllocatedMb_pct1,AverageAllocatedMb_pct5,AverageAllocatedMb_pct25,AverageAllocatedMb_pct50,AverageAllocatedMb_pct75,AverageAllocatedMb_pct95,AverageAllocatedMb_pct99,AverageAllocatedMb_pct100
o1,a1,22209,9.5,7.75,8.25,8.75,9.75,9.875,10.375,10.5,10.75
""",
    "azure_functions_2021": b"""\
app,func,end_timestamp,duration
a1,f1,0.07949090003967285,0.078
a2,f1,57.15786004066467,57.154
a1,f2,57.2,0.0
""",
    "lambda_perf": json.dumps(
        {
            "metadata": {"generatedAt": "2026-02-02T14:00:12.368Z"},
            "runtimeData": [
                {"r": "lambda-perf-go-zip-256-arm64", "p": "zip", "d": "go", "i": [131.25, 131.5], "m": 256,
                 "a": "arm64", "mu": 29.6, "ad": 18.477, "acd": 131.375},
                {"r": "lambda-perf-ruby-zip-256-arm64", "p": "zip", "d": "ruby", "i": [], "m": 256, "a": "arm64",
                 "mu": None, "ad": None, "acd": None},
            ],
        }
    ).encode(),
    "lambda_report": b"""\
2024-05-10T10:00:00.100Z START RequestId: 1111aaaa-0000-4000-8000-000000000001 Version: $LATEST
2024-05-10T10:00:00.110Z handling the order of someone
2024-05-10T10:00:00.200Z END RequestId: 1111aaaa-0000-4000-8000-000000000001
2024-05-10T10:00:00.200Z REPORT RequestId: 1111aaaa-0000-4000-8000-000000000001\tDuration: 33.99 ms\tBilled Duration: 100 ms\tMemory Size: 128 MB\tMax Memory Used: 57 MB\tInit Duration: 55.75 ms\t
2024-05-10T10:00:05.000Z REPORT RequestId: 1111aaaa-0000-4000-8000-000000000002\tDuration: 3000.00 ms\tBilled Duration: 3000 ms\tMemory Size: 128 MB\tMax Memory Used: 60 MB\tStatus: timeout
""",
    "invitro": b"""\
phase,instance,invocationID,startTime,requestedDuration,grpcConnEstablish,responseTime,actualDuration,connectionTimeout,functionTimeout,activationID,startType,httpStatusCode,waitTime,initTime
2,trace-func-0,min0.inv0,1715335200000100,1000,250,21000,1200,false,false,x1,cold,200,4000,15000
2,trace-func-0,min0.inv1,1715335201000100,1000,0,2000,1100,false,false,x2,hot,200,500,0
2,,min0.inv2,1715335202000100,1000,0,0,0,true,false,,,0,0,0
2,trace-func-1,min0.inv3,1715335203000100,1000,0,2500,0,false,false,x4,hot,502,500,0
""",
    "openwhisk": json.dumps(
        [
            {"activationId": "a1", "namespace": "guest", "name": "echo", "version": "0.0.1", "subject": "guest",
             "start": 1715335200123, "end": 1715335200180, "duration": 57, "statusCode": 0, "logs": [],
             "annotations": [{"key": "path", "value": "guest/echo"}, {"key": "waitTime", "value": 66},
                             {"key": "kind", "value": "nodejs:20"}, {"key": "initTime", "value": 50},
                             {"key": "limits", "value": {"logs": 10, "memory": 256, "timeout": 60000}}]},
            {"activationId": "a2", "namespace": "guest", "name": "echo", "version": "0.0.1", "subject": "guest",
             "start": 1715335201000, "end": 1715335201004, "duration": 4,
             "response": {"status": "application error", "statusCode": 1, "success": False, "result": {"error": "no"}},
             "annotations": [{"key": "waitTime", "value": 3}, {"key": "kind", "value": "nodejs:20"}]},
        ],
        indent=1,
    ).encode(),
    "ibm_code_engine": b"""\
NamespaceHash,AppHash,day,AppContainerRequestCpu,AppContainerRequestMemory,AppContainerConcurrency,AppMinScale
n1,h1,0,1.0,4.0,100.0,0.0
n1,h1,3,0.25,0.5,100.0,1.0
n1,h1,9,,,,
""",
    "gentd26_loads": b"value,timestamp_anon,container_ip\n22700.0,57.0,d41d8cd98f00b204e9800998ecf8427e\n3100.5,114.0,NULL\n",
    "gentd26_series": b"timestamp_anon,value,container_ip\n57.0,24.7,d41d8cd98f00b204e9800998ecf8427e\n114.0,NULL,None\n",
}  # fmt: skip
PATHS: dict[str, str] = {
    "huawei_cold_start": "cold_start/R2/day_00.csv",
    "huawei_request": "per_request/R2/part_000.csv",
    "huawei_2025_requests": "quantiles/R2/requests/day_00.csv",
    "huawei_2025_metrics": "quantiles/R2/totalCost_worker_quantile_050/day_00.csv",
    "huawei_2023_requests": "private_dataset/requests_second/day_000.csv",
    "huawei_2023_metrics": "private_dataset/cpu_limit_minute/day_000.csv",
    "azure_functions_2019": "invocations_per_function_md.anon.d02.csv",
    "gentd26_loads": "base_model_update_latency_anon.csv",
    "gentd26_series": "pod_gpu_duty_cycle_anon.csv",
    "lambda_report": "orders.log",
}
SECRETS: dict[str, bytes] = {
    "lambda_report": FIXTURES["lambda_report"].replace(b"the order of someone", b"PLANTED-SECRET")
    + b"2024-05-10T10:00:06.000Z REPORT RequestId: 1111aaaa-0000-4000-8000-000000000003\tPLANTED-SECRET\n",
    "openwhisk": FIXTURES["openwhisk"]
    .replace(b'"logs": []', b'"logs": ["PLANTED-SECRET"], "prompt": "PLANTED-SECRET"')
    .replace(b'"subject": "guest"', b'"subject": "PLANTED-SECRET"')
    .replace(b'"error": "no"', b'"error": "PLANTED-SECRET"')
    .replace(b'"namespace": "guest"', b'"namespace": "PLANTED-SECRET@example.org"'),
    "lambda_perf": FIXTURES["lambda_perf"].replace(
        b'"p": "zip"', b'"p": "zip", "prompt": "PLANTED-SECRET"'
    ),
    "invitro": FIXTURES["invitro"].replace(b"trace-func-1", b"PLANTED-SECRET@10.1.2.3"),
}
