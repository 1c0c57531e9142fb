"""Every compiled loop; imported only where a problem is large enough to need one."""
