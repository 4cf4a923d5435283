"""The representative's portal: pages served to one person from this machine, over a replica that works with no network."""
