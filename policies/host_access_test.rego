package tidewaiter.host_access_test

import data.tidewaiter.host_access

pod(spec, containers) := {"spec": object.union({"volumes": []}, spec), "containers": containers}

mounts(path) := pod({"volumes": [{"name": "v", "hostPath": {"path": path}, "index": 3}]}, [])

ports(numbers) := pod({}, [{
	"kind": "containers",
	"path": "spec.containers[0]",
	"name": "web",
	"ports": [{"containerPort": 80, "hostPort": number} | some number in numbers],
}])

test_a_plain_pod_passes if {
	count(host_access.findings) == 0 with input as pod({}, [{"path": "spec.containers[0]", "name": "web"}])
}

test_each_host_namespace_is_found if {
	every flag in ["hostNetwork", "hostPID", "hostIPC"] {
		found := host_access.findings with input as pod({flag: true}, [])
		{one.path | some one in found} == {sprintf("spec.%s", [flag])}
	}
}

test_all_host_namespaces_are_found_together if {
	given := pod({"hostNetwork": true, "hostPID": true, "hostIPC": true}, [])
	count(host_access.findings) == 3 with input as given
}

test_a_flag_that_is_false_passes if {
	count(host_access.findings) == 0 with input as pod({"hostNetwork": false}, [])
}

test_a_volume_of_the_node_is_found_at_its_index if {
	found := host_access.findings with input as mounts("/etc")
	{one.path | some one in found} == {"spec.volumes[3]"}
}

test_a_volume_without_a_path_is_found if {
	given := pod({"volumes": [{"name": "v", "hostPath": {}, "index": 0}]}, [])
	count(host_access.findings) == 1 with input as given
}

test_only_the_very_path_is_allowed if {
	count(host_access.findings) == 0 with input as mounts("/models")
		with data.settings.host_access.allowed_paths as ["/models"]
	count(host_access.findings) == 1 with input as mounts("/models/../etc")
		with data.settings.host_access.allowed_paths as ["/models"]
}

test_host_ports_are_found_each if {
	found := host_access.findings with input as ports([8080, 8081])
	{one.message | some one in found} == {"host port 8080 is used", "host port 8081 is used"}
	{one.container | some one in found} == {"web"}
}

test_a_host_port_of_zero_is_none if {
	count(host_access.findings) == 0 with input as ports([0])
}

test_a_privileged_container_is_found_at_its_path if {
	found := host_access.findings with input as pod({}, [
		{"path": "spec.containers[0]", "name": "good"},
		{"path": "spec.initContainers[0]", "name": "bad", "privileged": true},
	])
	{[one.path, one.container] | some one in found} == {["spec.initContainers[0].securityContext.privileged", "bad"]}
}
