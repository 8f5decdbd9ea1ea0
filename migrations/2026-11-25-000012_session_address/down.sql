alter table refresh_tokens drop column address;
