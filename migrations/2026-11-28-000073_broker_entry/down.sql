alter table devices drop column entered_by;
