drop table outside_identities;
