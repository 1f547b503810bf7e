package tidewaiter.image_registry_test

import data.tidewaiter.image_registry

registries := ["docker.io", "ghcr.io/acme", "registry:443"]

refused(images) := {one.message | some one in found} if {
	containers := [{"kind": "containers", "path": "spec.containers[0]", "name": "web", "image": image} |
		some image in images
	]
	found := image_registry.findings with input as {"containers": containers}
		with data.settings.image_registry.allowed as registries
}

test_allowed_registries_pass if {
	images := ["nginx", "vllm/vllm-openai:v1", "nginx@sha256:abc", "ghcr.io/acme/server", "registry:443/img"]
	count(refused(images)) == 0
}

test_other_registries_are_found if {
	images := [
		"evil.io/x", "ghcr.io/evil/x", "ghcr.io/acme-evil/x", "registry:5000/x", "localhost/x",
		"docker.io.evil.com/x", "GHCR.IO/acme/x",
	]
	count(refused(images)) == count(images)
}

test_an_image_without_a_registry_is_docker_hubs if {
	found := image_registry.findings with input as {"containers": [{"path": "p", "image": "nginx"}]}
		with data.settings.image_registry.allowed as ["ghcr.io"]
	{one.path | some one in found} == {"p.image"}
}

test_the_finding_names_the_container_and_the_choices if {
	found := image_registry.findings with input as {"containers": [{"path": "p", "name": "web", "image": "evil.io/x"}]}
		with data.settings.image_registry.allowed as ["docker.io", "ghcr.io"]
	{[one.container, one.remedy] | some one in found} == {["web", "use one of docker.io, ghcr.io"]}
}

test_a_container_without_an_image_passes if {
	count(image_registry.findings) == 0 with input as {"containers": [{"path": "p", "name": "web"}]}
}

test_the_data_file_allows_nvidias_registry if {
	given := {"containers": [{"path": "p", "image": "nvcr.io/nvidia/tritonserver@sha256:abc"}]}
	count(image_registry.findings) == 0 with input as given
}
