"""How good generated images are: grey levels, structure, nuclei."""
