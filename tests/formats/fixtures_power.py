"""Small invented sources of every power, job and metrics format, true to their layouts.

``PATHS`` names the file of a source whose path says what it holds; the others may have any name.
"""

from __future__ import annotations

POWER: dict[str, bytes] = {
    "nvidia_smi": b"""\
timestamp, index, uuid, name, power.draw [W], power.draw.average [W], power.draw.instant [W], power.limit [W], enforced.power.limit [W], clocks.current.sm [MHz], clocks.current.memory [MHz], utilization.gpu [%], utilization.memory [%], memory.used [MiB], temperature.gpu, fan.speed [%], pstate
2026/03/04 10:00:00.250, 0, GPU-11111111-2222-3333-4444-555555555555, NVIDIA H100 80GB HBM3, 300.10, 300.10, 310.20, 700.00, 650.00, 1410, 2619, 57, 31, 100, 40, [N/A], P0
2026/03/04 10:00:00.251, 1, GPU-66666666-7777-8888-9999-000000000000, NVIDIA H100 80GB HBM3, 71.50, 71.50, [N/A], 700.00, 650.00, 345, 2619, 0, 0, 0, 35, [N/A], P8
""",
    "nvidia_dmon": b"""\
#Date        Time         gpu    pwr  gtemp  mtemp     sm    mem    enc    dec   mclk   pclk     fb   bar1
#YYYYMMDD    HH:MM:SS     Idx      W      C      C      %      %      %      %    MHz    MHz     MB     MB
 20260304    10:00:00       0    310     40     43     57     31      0      0   2619   1410    100      1
 20260304    10:00:00       1      -     35      -      0      0      0      0   2619    345      0      1
 20260304    10:00:01       0    412     41     44     99     40      0      0   2619   1395    100      1
""",
    "ptdaemon": b"""\
Time,03-04-2021 10:00:00.100,Watts,500.000000,Volts,-1.000000,Amps,-1.000000,PF,-1.000000,Mark,run_testing,Ch1,Watts,300.000000,Volts,206.130000,Amps,1.714300,PF,0.968400,Ch2,Watts,200.000000,Volts,206.280000,Amps,1.360200,PF,0.957800
Time,03-04-2021 10:00:01.100,Watts,600.500000,Volts,-1.000000,Amps,-1.000000,PF,-1.000000,Mark,run_testing,Ch1,Watts,350.500000,Volts,206.130000,Amps,1.714300,PF,0.968400,Ch2,Watts,250.000000,Volts,206.280000,Amps,1.360200,PF,0.957800
Time,03-04-2021 10:00:02.100,Watts,-1.000000,Volts,-1.000000,Amps,-1.000000,PF,-1.000000,Mark,run_testing,Ch1,Watts,-1.000000,Volts,-1.000000,Amps,-1.000000,PF,-1.000000,Ch2,Watts,-1.000000,Volts,-1.000000,Amps,-1.000000,PF,-1.000000
Time,03-04-2021 10:00:03.100,Watts,700.000000,Volts,-1.000000,Amps,-1.000000,PF,-1.000000,Mark,run_testing,Ch1,Watts,400.000000,Volts,206.130000,Amps,1.714300,PF,0.968400,Ch2,Watts,300.000000,Volts,206.280000,Amps,1.360200,PF,0.957800
""",
    "mlperf_detail": b"""\
:::MLLOG {"key": "effective_scenario", "value": "Server", "time_ms": 0.02, "namespace": "mlperf::logging", "event_type": "POINT_IN_TIME", "metadata": {"is_error": false, "file": "settings.cc", "line_no": 1}}
:::MLLOG {"key": "effective_target_qps", "value": 17500, "time_ms": 0.02, "namespace": "mlperf::logging", "event_type": "POINT_IN_TIME", "metadata": {}}
:::MLLOG {"key": "power_begin", "value": "03-04-2021 10:00:00.100", "time_ms": 6.0, "namespace": "mlperf::logging", "event_type": "POINT_IN_TIME", "metadata": {}}
:::MLLOG {"key": "power_end", "value": "03-04-2021 10:00:03.600", "time_ms": 6.0, "namespace": "mlperf::logging", "event_type": "POINT_IN_TIME", "metadata": {}}
:::MLLOG {"key": "result_completed_samples_per_sec", "value": 17497.7, "time_ms": 6.0, "namespace": "mlperf::logging", "event_type": "POINT_IN_TIME", "metadata": {}}
""",
    "zeus_log": b"""\
start_time,window_name,elapsed_time,gpu0_energy,gpu1_energy
13586410.284991832,warm up,8.0,1000.0,1080.0
13586420.690541402,epoch,4.5,900.0,
""",
    "zeus_sweep": b"""\
dataset,network,batch_size,optimizer,power_limit,time_per_epoch,average_power
cifar100,shufflenetv2,1024,adam,100,12.5,88.0
cifar100,shufflenetv2,1024,adam,250,10.0,160.0
""",
    "codecarbon": b"""\
timestamp,project_name,run_id,duration,emissions,emissions_rate,cpu_power,gpu_power,ram_power,cpu_energy,gpu_energy,ram_energy,energy_consumed,country_name,country_iso_code,region,os,python_version,cpu_count,cpu_model,gpu_count,gpu_model,longitude,latitude,ram_total_size,on_cloud,pue
2026-03-04T10:00:10,train,run-1,10.0,0.002,0.0002,40.0,100.0,3.0,0.001,0.002,0.0005,0.0035,France,FRA,bretagne,Linux,3.11,8,CPU X,1,GPU Y,2.792,48.399,8.0,N,1.0
2026-03-04T10:00:30,train,run-1,30.0,0.005,0.0002,42.0,110.0,3.0,0.004,0.005,0.0010,0.0100,France,FRA,bretagne,Linux,3.11,8,CPU X,1,GPU Y,2.792,48.399,8.0,N,1.0
2026-03-04T10:01:00,train,,20.0,0.001,0.0002,,110.0,3.0,,0.001,0.0010,,France,FRA,bretagne,Linux,3.11,8,CPU X,1,GPU Y,2.792,48.399,8.0,N,1.0
""",
    "acme_ipmi": b"""\
Time,node,Sys_Total_Power,CPU_Power,Memory_Power,PSU1_PIN,PSU2_PIN,PSU_IN_SUM
2023-07-01 08:00:00+08:00,10.140.7.7,2520.0,400.0,60.0,1300.0,1300.0,2600.0
2023-07-01 08:05:00+08:00,10.140.7.7,1512.0,300.0,,800.0,800.0,1600.0
""",
    "dcgm_wide": b"""\
Time,10.140.7.7-0,10.140.7.7-1,10.140.8.8-0
2023-07-01 08:00:00+08:00,96.5,395.0,
2023-07-01 08:00:15+08:00,97.0,401.2,60.1
""",
    "dcgm_wide_metrics": b"""\
Time,10.140.7.7,10.140.8.8
2023-07-01 08:00:00+08:00,8.101,NaN
2023-07-01 08:00:15+08:00,8.034,0.437
""",
    "mlenergy": b"""\
{"model_id": "org/model-8b", "task": "gpqa", "architecture": "Dense", "total_params_billions": 8.0, "weight_precision": "bfloat16",
 "configurations": [
  {"avg_batch_size": 15.9, "avg_output_len": 200.0, "avg_power_watts": 500.0, "energy_per_request_joules": 100.0,
   "energy_per_token_joules": 0.5, "gpu_model": "H100", "max_num_batched_tokens": null, "max_num_seqs": 16,
   "median_itl_ms": 8.0, "num_gpus": 2, "output_length_distribution": {"bins": [1.0, 2.0], "counts": [3]},
   "output_throughput_tokens_per_sec": 1000.0, "p90_itl_ms": 9.0, "p95_itl_ms": 9.5, "p99_itl_ms": 12.0,
   "parallelization": {"data_parallel": 1, "expert_parallel": 1, "notes": "", "tensor_parallel": 2}},
  {"avg_batch_size": 60.0, "avg_output_len": 200.0, "avg_power_watts": 600.0, "energy_per_request_joules": 40.0,
   "energy_per_token_joules": 0.2, "gpu_model": "H100", "max_num_seqs": 64, "median_itl_ms": 10.0, "num_gpus": 2,
   "output_throughput_tokens_per_sec": 3000.0, "parallelization": {"tensor_parallel": 2}}]}
""",
    "mlenergy_csv": b"""\
model_id,task,weight_precision,gpu_model,num_gpus,tensor_parallel,max_num_seqs,avg_batch_size,avg_output_len,avg_power_watts,energy_per_token_joules,energy_per_request_joules,output_throughput_tokens_per_sec,median_itl_ms
org/model-8b,gpqa,bfloat16,H100,2,2,16,15.9,200.0,500.0,0.5,100.0,1000.0,8.0
org/model-8b,gpqa,bfloat16,H100,2,2,64,60.0,200.0,600.0,0.2,40.0,3000.0,10.0
""",
    "splitwise_perf": b"""\
model,hardware,prompt_size,batch_size,token_size,peak_power,average_power,prompt_time,token_time,e2e_time,tensor_parallel
llama2-70b,a100-80gb,512,1,128,1.0000125,0.73599375,196.25,54.875,7168.75,2
llama2-70b,h100-80gb,512,1,128,0,0,90.5,30.25,3932.25,2
""",
    "cdf_figures": b"""\
figure,metric,label,x,cdf
10a,cold_start_time_s by region,R1,0.010093,0.0032
10a,cold_start_time_s by region,R1,0.041714,0.0037
""",
    "cdf_curve": b"gpu_power_w,cdf_pct\n15.4,0.0\n58.2,0.1\n600,100\n",
}
POWER_PATHS: dict[str, str] = {
    "ptdaemon": "run_1/spl.txt",
    "mlperf_detail": "run_1/mlperf_log_detail.txt",
    "dcgm_wide": "seren/POWER_USAGE.csv",
    "dcgm_wide_metrics": "seren/NODE_CPU_UTILIZATION.csv",
    "zeus_sweep": "summary_power_v100.csv",
    "cdf_curve": "gpu_power_seren_cdf.csv",
}
POWER_SECRETS: dict[str, bytes] = {
    "codecarbon": POWER["codecarbon"]
    .replace(b"Linux", b"sk-abcdefgh12345 PLANTED-SECRET")
    .replace(b"2.792", b"PLANTED-SECRET"),
    "mlenergy": POWER["mlenergy"].replace(
        b'"notes": ""', b'"notes": "PLANTED-SECRET", "prompt": "PLANTED-SECRET"'
    ),
    "mlperf_detail": POWER["mlperf_detail"].replace(
        b"settings.cc", b"/home/PLANTED-SECRET/settings.cc"
    ),
}

JOBS: dict[str, bytes] = {
    "philly": b"""\
[{"status": "Pass", "vc": "ee9e8c", "jobid": "application_1_1", "user": "u1", "submitted_time": "2017-10-07 01:11:39",
  "attempts": [
   {"start_time": "2017-10-07 01:12:09", "end_time": "2017-10-07 01:13:23", "detail": [{"ip": "m47", "gpus": ["gpu0", "gpu1"]}]},
   {"start_time": "2017-10-07 01:13:30", "end_time": "2017-10-07 03:13:30", "detail": [{"ip": "m41", "gpus": ["gpu0", "gpu1"]}, {"ip": "m42", "gpus": ["gpu0"]}]}]},
 {"status": "Failed", "vc": "ee9e8c", "jobid": "application_1_2", "user": "u2", "submitted_time": "2017-10-07 02:00:00",
  "attempts": [{"start_time": "2017-10-07 02:00:10", "end_time": "2017-10-07 02:01:10", "detail": [{"ip": "m47", "gpus": ["gpu3"]}]}]},
 {"status": "Killed", "vc": "ee9e8c", "jobid": "application_1_3", "user": "u2", "submitted_time": "2017-10-07 02:30:00", "attempts": []},
 {"status": "Killed", "vc": "ee9e8c", "jobid": "application_1_4", "user": "u2", "submitted_time": "None",
  "attempts": [{"start_time": "2017-10-07 02:40:00", "end_time": "None", "detail": []}]}]
""",
    "philly_csv": b"timestamp,duration,num_gpus,gpu_time,cluster\n2017-10-09 06:13:03,2951.0,1,2951.0,6214e9\n2017-09-29 07:58:32,10.5,2,21.0,6c71a0\n",
    "acme_jobs": b"""\
job_id,user,node_num,gpu_num,cpu_num,mem_per_pod_GB,shared_mem_per_pod,type,state,submit_time,start_time,end_time,fail_time,stop_time,duration,queue,gpu_time
dlc1,uf794,8,64,960,1000,100.0,Other,FAILED,2023-05-17 11:00:58+00:00,2023-05-17 11:01:08+00:00,2023-05-17 11:01:16+00:00,2023-05-17 11:01:15+00:00,,18,10.0,1152.0
dlc2,uf794,8,64,960,1000,100.0,Other,CANCELLED,2023-05-17 19:28:42+08:00,2023-05-17 19:28:54+08:00,2023-05-17 19:30:04+08:00,,2023-05-17 11:30:04+00:00,70,12.0,5248.0
dlc3,uf795,1,0,8,,,CPU,RUNNING,2023-05-17 11:30:00+00:00,2023-05-17 11:31:00+00:00,,,,,60,
dlc4,uf795,1,8,8,,,Other,NODE_FAIL,2023-05-17 11:30:00+00:00,2023-05-17 11:31:00+00:00,2023-05-17 11:41:00+00:00,,,600,60,4800
""",
    "helios": b"""\
job_id,user,vc,gpu_num,cpu_num,node_num,state,submit_time,start_time,end_time,duration,queue
1425511,uXBbc,vcJkd,1,1,1,COMPLETED,2020-06-09 18:41:01,2020-06-09 18:41:01,2020-06-10 04:55:09,36848,0
1425512,uVMrF,vchbv,4,16,1,TIMEOUT,2020-06-09 18:41:27,2020-06-09 18:41:37,2020-06-09 18:45:36,239,10
""",
    "pai_jobs": b"4b3f04b66a525d2df903eb16,8cb3bec2,58540f191766,Terminated,4550879.0,4551416.0\n4b3f04b66a525d2df903eb17,8cb3bec3,58540f191766,Failed,4550880.0,4551000.0\n4b3f04b66a525d2df903eb17,8cb3bec4,58540f191766,Waiting,4550990.0,\n",
    "pai_tasks": b"4f057009a5d481acec67b088,tensorflow,2.0,Terminated,1739162.0,1739200.0,600.0,29.296875,50.0,MISC\n4f057009a5d481acec67b089,ps,1.0,Failed,1739162.0,1739172.0,600.0,29.25,,\n",
    "pai_jobs_header": b"job_name,inst_id,user,status,start_time,end_time\n",
}
JOB_PATHS: dict[str, str] = {"acme_jobs": "trace_kalos.csv", "helios": "Venus/cluster_log.csv"}
JOB_SECRETS: dict[str, bytes] = {
    "philly": JOBS["philly"]
    .replace(b'"ip": "m47"', b'"ip": "PLANTED-SECRET"')
    .replace(b'"status": "Pass"', b'"status": "Pass", "prompt": "PLANTED-SECRET"'),
}

METRICS: dict[str, bytes] = {
    "openmetrics": b"""\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="org/model-8b"} 8.0
# HELP vllm:time_to_first_token_seconds Histogram of time to first token in seconds.
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="org/model-8b"} 0.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="org/model-8b"} 12.0
vllm:time_to_first_token_seconds_sum{engine="0",model_name="org/model-8b"} 3.25
# TYPE vllm:request_success counter
vllm:request_success_total{engine="0",finished_reason="stop",model_name="org/model-8b"} 1.2e+01
process_start_time_seconds 1.7e9
go_gc_duration_seconds{quantile="0.5"} NaN
""",
    "dcgm": b"""\
# HELP DCGM_FI_DEV_SM_CLOCK SM clock frequency (in MHz).
# TYPE DCGM_FI_DEV_SM_CLOCK gauge
DCGM_FI_DEV_SM_CLOCK{gpu="0",UUID="GPU-1",device="nvidia0",modelName="NVIDIA H100 80GB HBM3",Hostname="node-1"} 1410 1772618400000
DCGM_FI_DEV_SM_CLOCK{gpu="1",UUID="GPU-2",device="nvidia1",modelName="NVIDIA H100 80GB HBM3",Hostname="node-1"} 345 1772618400000
# TYPE DCGM_FI_DEV_POWER_USAGE gauge
DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-1",device="nvidia0",modelName="NVIDIA H100 80GB HBM3",Hostname="node-1"} 310.5 1772618400000
DCGM_FI_DEV_POWER_USAGE{gpu="1",UUID="GPU-2",device="nvidia1",modelName="NVIDIA H100 80GB HBM3",Hostname="node-1"} 71.5 1772618400000
# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION counter
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu="0",UUID="GPU-1",device="nvidia0",modelName="NVIDIA H100 80GB HBM3",Hostname="node-1"} 9223372036854775794 1772618400000
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu="1",UUID="GPU-2",device="nvidia1",modelName="NVIDIA H100 80GB HBM3",Hostname="node-1"} 123456 1772618400000
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-1",device="nvidia0",modelName="NVIDIA H100 80GB HBM3",Hostname="node-1"} 57 1772618400000
# TYPE DCGM_FI_DEV_FB_USED gauge
DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-1",device="nvidia0",modelName="NVIDIA H100 80GB HBM3",Hostname="node-1"} 100 1772618400000
# TYPE DCGM_FI_PROF_SM_ACTIVE gauge
DCGM_FI_PROF_SM_ACTIVE{gpu="0",UUID="GPU-1",device="nvidia0",modelName="NVIDIA H100 80GB HBM3",Hostname="node-1"} 0.5 1772618400000
DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-1",device="nvidia0",modelName="NVIDIA H100 80GB HBM3",Hostname="node-1"} 320.5 1772618401000
""",
    "prometheus": b"""\
{"status": "success", "data": {"resultType": "matrix", "result": [
 {"metric": {"__name__": "vllm:num_requests_running", "instance": "10.1.2.3:8000", "job": "vllm", "model_name": "org/model-8b"},
  "values": [[1772618400.781, "8"], [1772618415.781, "NaN"]]},
 {"metric": {"__name__": "vllm:e2e_request_latency_seconds_bucket", "instance": "10.1.2.4:8000", "le": "+Inf"},
  "values": [[1772618400.781, "12"], [1772618415.781, "+Inf"]]},
 {"metric": {}, "values": [[1772618400, "0.25"]]}]}}
""",
}
METRIC_SECRETS: dict[str, bytes] = {
    "openmetrics": METRICS["openmetrics"].replace(b"Number of requests", b"PLANTED-SECRET")
    + b'x_total{prompt="PLANTED-SECRET",err_msg="PLANTED-SECRET",mail="PLANTED-SECRET",to="PLANTED-SECRET@example.org"} 1 # {trace_id="PLANTED-SECRET"} 0.5\n'
    + b'x_total{a="PLANTED-SECRET\n',
    "dcgm": METRICS["dcgm"].replace(
        b'Hostname="node-1"', b'Hostname="10.9.8.7",err_msg="PLANTED-SECRET"'
    ),
    "prometheus": METRICS["prometheus"].replace(
        b'"job": "vllm"', b'"prompt": "PLANTED-SECRET", "to": "PLANTED-SECRET@example.org"'
    ),
}

FIXTURES: dict[str, bytes] = {**POWER, **JOBS, **METRICS}
PATHS: dict[str, str] = {**POWER_PATHS, **JOB_PATHS}
SECRETS: dict[str, bytes] = {**POWER_SECRETS, **JOB_SECRETS, **METRIC_SECRETS}
