"""Rego: policies as files, and the engines that evaluate them."""
