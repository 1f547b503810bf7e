# METADATA
# title: Models run in runtimes that the platform supports
# description: |
#   Judges the pod's runtime class, and the serving framework and image of its main
#   containers, by the lists in `settings.allowed_runtimes` in data.yaml. An empty list allows
#   everything. An image of the list is a repository without tag or digest; a framework is
#   named as Tidewaiter names it (triton, vllm). A container of no known framework is judged
#   by its image alone.
# related_resources:
#   - ref: https://kubernetes.io/docs/concepts/containers/runtime-class/
#     description: RuntimeClass
# schemas:
#   - input: schema.input
# custom:
#   id: allowed-runtimes
#   severity: medium
#   remedy: use a runtime that the platform supports
#   scope: model-pod
#   workloads: [inference]
package tidewaiter.allowed_runtimes

import data.settings.allowed_runtimes.frameworks
import data.settings.allowed_runtimes.images
import data.settings.allowed_runtimes.runtime_classes

findings contains finding if {
	count(runtime_classes) > 0
	name := input.spec.runtimeClassName
	not name in runtime_classes
	finding := {
		"path": "spec.runtimeClassName",
		"message": sprintf("runtime class \"%s\" is not supported", [name]),
		"remedy": sprintf("use one of %s, or none", [concat(", ", runtime_classes)]),
	}
}

findings contains finding if {
	count(frameworks) > 0
	some container in main
	name := container.framework
	not name in frameworks
	finding := {
		"path": sprintf("%s.image", [container.path]),
		"container": object.get(container, "name", ""),
		"message": sprintf("serving framework %s is not supported", [name]),
		"remedy": sprintf("use one of %s", [concat(", ", frameworks)]),
	}
}

findings contains finding if {
	count(images) > 0
	some container in main
	repository := without_version(container.image)
	not repository in images
	finding := {
		"path": sprintf("%s.image", [container.path]),
		"container": object.get(container, "name", ""),
		"message": sprintf("image \"%s\" is no supported serving runtime", [container.image]),
		"remedy": sprintf("use one of %s", [concat(", ", images)]),
	}
}

main contains container if {
	some container in input.containers
	container.kind == "containers"
}

# A colon after the last slash begins a tag; one before it belongs to the registry.
without_version(image) := regex.replace(split(image, "@")[0], `:[^/]*$`, "")
