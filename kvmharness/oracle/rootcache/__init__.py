"""The oracle "root-cache": how often KVM must load an MMU root."""
