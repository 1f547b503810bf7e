package tidewaiter.allowed_runtimes_test

import data.tidewaiter.allowed_runtimes

pod(spec, containers) := {"spec": object.union({"volumes": []}, spec), "containers": containers}

main(more) := object.union({"kind": "containers", "path": "spec.containers[0]", "name": "server"}, more)

lists(more) := object.union({"runtime_classes": [], "frameworks": [], "images": []}, more)

test_empty_lists_allow_everything if {
	given := pod({"runtimeClassName": "kata"}, [main({"image": "any/thing:1", "framework": "ray"})])
	count(allowed_runtimes.findings) == 0 with input as given
}

test_another_runtime_class_is_found if {
	found := allowed_runtimes.findings with input as pod({"runtimeClassName": "kata"}, [])
		with data.settings.allowed_runtimes as lists({"runtime_classes": ["nvidia"]})
	{[one.path, one.remedy] | some one in found} == {["spec.runtimeClassName", "use one of nvidia, or none"]}
}

test_no_runtime_class_passes if {
	count(allowed_runtimes.findings) == 0 with input as pod({}, [])
		with data.settings.allowed_runtimes as lists({"runtime_classes": ["nvidia"]})
}

test_another_framework_is_found if {
	found := allowed_runtimes.findings with input as pod({}, [main({"framework": "ray"})])
		with data.settings.allowed_runtimes as lists({"frameworks": ["triton"]})
	{[one.path, one.container] | some one in found} == {["spec.containers[0].image", "server"]}
}

test_images_are_compared_without_tag_and_digest if {
	images := ["r:443/triton", "r:443/triton:1", "r:443/triton@sha256:a", "r:443/triton:1@sha256:a"]
	every image in images {
		count(allowed_runtimes.findings) == 0 with input as pod({}, [main({"image": image})])
			with data.settings.allowed_runtimes as lists({"images": ["r:443/triton"]})
	}
}

test_another_image_is_found if {
	found := allowed_runtimes.findings with input as pod({}, [main({"image": "r/triton-evil:1"})])
		with data.settings.allowed_runtimes as lists({"images": ["r/triton"]})
	{one.message | some one in found} == {"image \"r/triton-evil:1\" is no supported serving runtime"}
}

test_init_containers_pass if {
	given := pod({}, [{"kind": "initContainers", "path": "spec.initContainers[0]", "image": "x", "framework": "ray"}])
	count(allowed_runtimes.findings) == 0 with input as given
		with data.settings.allowed_runtimes as lists({"images": ["r/triton"], "frameworks": ["triton"]})
}
