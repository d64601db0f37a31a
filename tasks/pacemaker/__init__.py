"""The Pacemaker cluster as `crm_mon` shows it."""
