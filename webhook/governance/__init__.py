"""The review of our own objects: who may propose, approve, reject and revoke."""
