# METADATA
# title: Images come from registries that the platform allows
# description: |
#   Judges the registry of every container's image, init and ephemeral ones included.
#   An image without a registry is Docker Hub's. The list is `settings.image_registry.allowed`
#   in data.yaml; an entry may name a path below a registry (ghcr.io/acme).
# related_resources:
#   - ref: https://github.com/distribution/reference
#     description: How an image reference is read
# schemas:
#   - input: schema.input
# custom:
#   id: image-registry
#   severity: high
#   remedy: use an image of an allowed registry
#   scope: model-pod
package tidewaiter.image_registry

import data.settings.image_registry.allowed

findings contains finding if {
	some container in input.containers
	image := container.image
	name := canonical(image)
	not permitted(name)
	finding := {
		"path": sprintf("%s.image", [container.path]),
		"container": object.get(container, "name", ""),
		"message": sprintf("image \"%s\" does not come from an allowed registry", [image]),
		"remedy": sprintf("use one of %s", [concat(", ", allowed)]),
	}
}

permitted(name) if {
	some prefix in allowed
	startswith(name, concat("", [prefix, "/"]))
}

# docker.io is written out, as the container runtimes do before they pull.
canonical(image) := image if {
	regex.match(`^(localhost|[^/]*[.:][^/]*)/`, image)
} else := concat("", ["docker.io/", image])
