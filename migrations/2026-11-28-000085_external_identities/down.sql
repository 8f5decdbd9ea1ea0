alter index external_identities_user rename to outside_identities_user;
alter table external_identities rename to outside_identities;
