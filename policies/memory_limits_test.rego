package tidewaiter.memory_limits_test

import data.tidewaiter.memory_limits

container(kind, resources) := object.union({"kind": kind, "path": sprintf("spec.%s[0]", [kind]), "name": "web"}, resources)

limited := {"resources": {"limits": {"memory": "1Gi"}}}

test_a_limit_passes if {
	count(memory_limits.findings) == 0 with input as {"containers": [container("containers", limited)]}
}

test_a_missing_limit_is_found if {
	without := [{}, {"resources": {}}, {"resources": {"limits": {"cpu": 1}}}, {"resources": {"requests": {"memory": "1Gi"}}}]
	every resources in without {
		found := memory_limits.findings with input as {"containers": [container("containers", resources)]}
		{[one.path, one.container] | some one in found} == {["spec.containers[0].resources.limits", "web"]}
	}
}

test_init_and_ephemeral_containers_pass if {
	given := [container("initContainers", {}), container("ephemeralContainers", {})]
	count(memory_limits.findings) == 0 with input as {"containers": given}
}
